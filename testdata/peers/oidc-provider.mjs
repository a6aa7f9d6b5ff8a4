// Serves token introspection with oidc-provider, from memory. It is a peer of
// the benchmarks, and nothing else.
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const server = createServer();
server.keepAliveTimeout = 60_000; // a connection waits while others have their turn
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'bench',
      client_secret: 'bench-secret',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    }],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
    },
    ttl: { ClientCredentials: 3600 },
  });
  server.on('request', provider.callback());
  console.log(`oidc-provider listens on ${issuer}`);
});
