package client

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Kept is a root token in a store, and since when it is there.
type Kept struct {
	Token string
	Since time.Time
}

// Format prints neither. In an unexported field fmt calls no method: keep none
// there that may be printed.
func (Kept) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// RootStore keeps a device's root token: a file (package rootfile), or an
// operating system's own place for secrets.
type RootStore interface {
	Load(ctx context.Context) (Kept, error)
	// Update calls renew with what is kept, and keeps what that returns instead,
	// durably, before it returns nil. When renew fails, it returns its error
	// and changes nothing. Where several processes share the store, only one is
	// in Update at a time.
	Update(ctx context.Context, renew func(Kept) (next string, err error)) error
}

// InMemory is a store of this process only: after a restart it is gone.
func InMemory(root string) RootStore { return &memory{kept: Kept{root, time.Now()}} }

type memory struct {
	mu   sync.Mutex
	kept Kept
}

func (m *memory) Load(context.Context) (Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, nil
}

func (m *memory) Update(_ context.Context, renew func(Kept) (string, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := renew(m.kept)
	if err == nil && next != m.kept.Token {
		m.kept = Kept{next, time.Now()}
	}
	return err
}

func (m *memory) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }
