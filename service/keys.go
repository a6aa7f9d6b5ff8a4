package service

import (
	"context"
	"strconv"
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
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		return storage.Epoch{}, err
	}
	// On a ring of its own: the one in use is the follower's, which may have read
	// the epochs since.
	if err := keyring.New(s.sealing).Load(epochs); err != nil {
		return storage.Epoch{}, err
	}
	next, err := s.store.CreateEpoch(ctx, false, s.sealing.Seal, s.event(EventEpochCreated, actor, src))
	if err != nil {
		return storage.Epoch{}, err
	}
	return next, s.changed(ctx)
}

// RetireKeys ends an epoch at once, and every token that was minted in it. When
// it is the one that signs, another begins first: there is always one.
func (s *Service) RetireKeys(ctx context.Context, number uint32, actor string, src Source) error {
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		return err
	}
	for _, e := range epochs {
		if e.Number == number && e.State == storage.EpochSigning {
			if _, err := s.RotateKeys(ctx, actor, src); err != nil {
				return err
			}
		}
	}
	return s.retire(ctx, number, actor, src)
}

// RetireAllKeys ends every token there is: all epochs but a new one.
func (s *Service) RetireAllKeys(ctx context.Context, actor string, src Source) (retired int, err error) {
	next, err := s.RotateKeys(ctx, actor, src)
	if err != nil {
		return 0, err
	}
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		return 0, err
	}
	for _, e := range epochs {
		if e.Number >= next.Number || e.State == storage.EpochRetired {
			continue
		}
		if err := s.retire(ctx, e.Number, actor, src); err != nil {
			return retired, err
		}
		retired++
	}
	return retired, nil
}

func (s *Service) retire(ctx context.Context, number uint32, actor string, src Source) error {
	ev := s.event(EventEpochRetired, actor, src)
	ev.Detail = "epoch " + strconv.FormatUint(uint64(number), 10)
	entry, err := s.store.RetireEpoch(ctx, number, ev)
	if err != nil {
		return err
	}
	s.revoked(entry)
	return nil
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
