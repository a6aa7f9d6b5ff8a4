package service

import (
	"context"
	"slices"
	"time"

	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
)

// Epochs are generations of the authority's secret. One signs; earlier ones
// verify until the last token that they minted has expired, and then go.

// RotateKeys begins another epoch, which signs from now on. Nobody is logged
// out: tokens of the former ones live on. Keys that do not open the epochs that
// are there are [keyring.ErrCannotOpen]: no server could open all of them.
func (s *Service) RotateKeys(ctx context.Context, actor string, src Source) (storage.Epoch, error) {
	if err := s.opensEpochs(ctx); err != nil {
		return storage.Epoch{}, err
	}
	next, err := s.store.CreateEpoch(ctx, false, s.sealing.Seal, s.event(EventEpochCreated, actor, src))
	if err != nil {
		return storage.Epoch{}, err
	}
	return next, s.changed(ctx)
}

// opensEpochs is an error when the keys do not open the epochs that are there. It
// looks with a ring of its own: the one in use is the follower's, which may have
// read the epochs since.
func (s *Service) opensEpochs(ctx context.Context) error {
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		return err
	}
	return keyring.New(s.sealing).Load(epochs)
}

// RetireKeys ends an epoch at once, and every token that was minted in it. When
// it is the one that signs, another begins in the same moment: there is always
// one, and nothing is renewed from the one into the other.
func (s *Service) RetireKeys(ctx context.Context, number uint32, actor string, src Source) error {
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		return err
	}
	signing := func(e storage.Epoch) bool { return e.Number == number && e.State == storage.EpochSigning }
	_, err = s.retire(ctx, storage.RetireEpochs{Number: number}, slices.ContainsFunc(epochs, signing), actor, src)
	return err
}

// RetireAllKeys ends every token there is: all epochs but a new one.
func (s *Service) RetireAllKeys(ctx context.Context, actor string, src Source) (retired int, err error) {
	return s.retire(ctx, storage.RetireEpochs{All: true}, true, actor, src)
}

// retire also says how many epochs it ended. begins: another one is to sign.
func (s *Service) retire(ctx context.Context, in storage.RetireEpochs, begins bool, actor string, src Source) (int, error) {
	if begins {
		if err := s.opensEpochs(ctx); err != nil {
			return 0, err
		}
	}
	in.Seal, in.Begun = s.sealing.Seal, s.event(EventEpochCreated, actor, src)
	entries, err := s.store.RetireEpochs(ctx, in, s.event(EventEpochRetired, actor, src))
	s.revoked(entries...)
	if err == nil && begins {
		err = s.changed(ctx)
	}
	return len(entries), err
}

// ResealKeys seals every epoch's secret under the first of the key-encryption
// keys, so that the others can be taken out of the key file. The secrets stay
// what they are, and so do tokens.
func (s *Service) ResealKeys(ctx context.Context, actor string, src Source) (int, error) {
	return s.store.ResealEpochs(ctx, s.sealing.Reseal, s.event(EventKeysResealed, actor, src))
}

// RotateWhenDue rotates when the signing epoch is older than the settings want.
func (s *Service) RotateWhenDue(ctx context.Context, now time.Time) {
	every := s.Settings().RotateEvery
	if every <= 0 {
		return
	}
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		s.log.Error("whether keys are due to be rotated cannot be told", "error", err)
		return
	}
	for _, e := range epochs {
		if e.State != storage.EpochSigning || now.Sub(e.CreatedAt) < every {
			continue
		}
		next, err := s.RotateKeys(ctx, "", Source{})
		if err != nil {
			s.log.Error("keys are due and were not rotated", "error", err)
			return
		}
		s.log.Info("keys rotated", "epoch", next.Number)
	}
}

// EpochList is every epoch that is there, without its secret.
func (s *Service) EpochList(ctx context.Context) (api.Epochs, error) {
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		return api.Epochs{}, err
	}
	out := api.Epochs{Epochs: []api.Epoch{}}
	for _, e := range epochs {
		out.Epochs = append(out.Epochs, EpochOut(e))
	}
	return out, nil
}

var epochStates = map[storage.EpochState]string{
	storage.EpochSigning: "signing", storage.EpochVerifying: "verifying", storage.EpochRetired: "retired",
}

// EpochOut is an epoch as it goes over the wire.
func EpochOut(e storage.Epoch) api.Epoch {
	return api.Epoch{Number: e.Number, State: epochStates[e.State], CreatedAt: api.At(e.CreatedAt), ExpiresAt: apiTime(e.ExpiresAt)}
}
