package sqlite

import (
	"path/filepath"
	"testing"

	"macaroond/storage"
	"macaroond/storage/storagetest"
)

func TestContract(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return openTest(t, filepath.Join(t.TempDir(), "db"), Options{})
	})
}
