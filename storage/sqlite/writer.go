package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/storage"
)

const (
	queueLength = 256 // changes that wait; the next caller waits for room
	groupLength = 128 // changes that share one COMMIT at most

	probeInterval = time.Second // while a change could not be made
)

var (
	errLost     = errors.New("transaction was rolled back by the database")
	errPanicked = errors.New("change panicked") // never shown: do panics in its caller's place
)

// writer is the one goroutine that changes the database. What has queued up
// while it committed shares the next transaction, and so the next sync; each
// change has its own savepoint, so that a failing one is undone alone. Nobody is
// answered before the COMMIT.
type writer struct {
	ctx   context.Context // never ends: a change that has begun is finished
	file  file
	open  func() (*conn, error)
	queue chan *job
	ended chan struct{}

	gate   sync.RWMutex // held for reading while sending to queue
	closed bool

	conn   *conn // nil after trouble: the next group opens a new one
	wasWAL bool

	down atomic.Pointer[storage.UnavailableError] // why a change could not be made, until probe has made one
}

// job is one queued change. run may be called twice, when a neighbour
// took the whole transaction down.
type job struct {
	run      func(*tx) error
	plain    func(error) bool // one statement that undoes itself: see doPlain
	phase    atomic.Int32
	done     chan struct{} // closed when err and panicked are there
	err      error
	panicked string
}

const (
	queued int32 = iota
	started
	abandoned // by its caller, before it started: never runs
)

// start reports whether the change is to be run.
func (c *job) start() bool {
	return c.phase.CompareAndSwap(queued, started) || c.phase.Load() == started
}

func (w *writer) answer(c *job, err error) {
	err = w.file.explain(err)
	if down, ok := errors.AsType[*storage.UnavailableError](err); ok && !w.damaged() {
		w.down.Store(down)
	}
	c.err = err
	close(c.done)
}

func newWriter(ctx context.Context, file file, open func() (*conn, error)) *writer {
	w := &writer{ctx: ctx, file: file, open: open, queue: make(chan *job, queueLength), ended: make(chan struct{})}
	go w.loop()
	return w
}

// do queues a change and waits for its COMMIT. A caller whose context ends
// earlier gets the context's error if the change has not started; then it never
// will.
func (w *writer) do(ctx context.Context, run func(*tx) error) error {
	return w.wait(ctx, &job{run: run, done: make(chan struct{})})
}

// doPlain is do for a change that is refused before it has changed anything, or
// that is a single statement, which SQLite undoes by itself when it fails: it
// needs no savepoint, which is two statements more. expected tells those
// refusals; after any other error the group begins anew.
func (w *writer) doPlain(ctx context.Context, run func(*tx) error, expected func(error) bool) error {
	return w.wait(ctx, &job{run: run, plain: expected, done: make(chan struct{})})
}

func (w *writer) wait(ctx context.Context, c *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.send(ctx, c); err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.phase.CompareAndSwap(queued, abandoned) {
			return ctx.Err()
		}
		<-c.done
	}
	if c.panicked != "" {
		panic(c.panicked) // where it would have been without the queue
	}
	return c.err
}

// takes is an error when the context has ended or no more changes are taken.
func (w *writer) takes(ctx context.Context) error {
	w.gate.RLock()
	defer w.gate.RUnlock()
	if w.closed {
		return unavailable(reasonClosed, nil)
	}
	return ctx.Err()
}

func (w *writer) send(ctx context.Context, c *job) error {
	w.gate.RLock()
	defer w.gate.RUnlock()
	if w.closed {
		return unavailable(reasonClosed, nil)
	}
	select {
	case w.queue <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close takes no more changes, and returns when the queued ones are answered.
func (w *writer) close() {
	w.gate.Lock()
	w.closed = true
	close(w.queue)
	w.gate.Unlock()
	<-w.ended
}

func (w *writer) loop() {
	defer close(w.ended)
	defer w.abort()
	var again <-chan time.Time // nil while all is well
	for {
		select {
		case c, ok := <-w.queue:
			if !ok {
				return
			}
			for _, c := range w.commit(c, groupLength) {
				w.commit(c, 1)
			}
		case <-again:
			again = nil
			w.probe()
		}
		if again == nil && w.down.Load() != nil {
			again = time.After(probeInterval)
		}
	}
}

// probe sees whether changes can be made again. One that succeeds by itself is
// no sign of it: on a full disk the smallest may still fit into the log.
func (w *writer) probe() {
	if w.damaged() || w.down.Load().Reason == reasonFull && w.file.diskFull() {
		return
	}
	c := &job{run: touch, done: make(chan struct{})}
	w.commit(c, 1)
	if c.err == nil {
		w.down.Store(nil)
	}
}

// damaged tells that a damaged page was met. Writing another one heals nothing.
func (w *writer) damaged() bool {
	down := w.down.Load()
	return down != nil && down.Reason == reasonDamaged
}

// touch is a change that changes nothing, and is written and synced as any.
func touch(t *tx) error {
	_, err := t.exec(`UPDATE state SET id = 1 WHERE id = 1`)
	return err
}

// gather adds what has queued up to a group. It lets the callers that were just
// answered go first: their next changes would otherwise come one group late.
func (w *writer) gather(group []*job, limit int) []*job {
	runtime.Gosched()
	for len(group) < limit {
		select {
		case c, ok := <-w.queue:
			if !ok {
				return group
			}
			group = append(group, c)
		default:
			return group
		}
	}
	return group
}

// commit runs one change, and others until limit that queue up meanwhile, in
// one transaction, and answers them. It returns those that still have to be
// run: the neighbours of one whose error made the database roll everything back.
func (w *writer) commit(first *job, limit int) (again []*job) {
	group := []*job{first}
	t, err := w.begin()
	if err != nil {
		for _, c := range w.gather(group, limit) {
			w.answer(c, err)
		}
		return nil
	}
	before := t.st
	ran := make([]*job, 0, limit)
	errs := make([]error, 0, limit)
	for i := 0; i < len(group); i++ {
		c := group[i]
		if c.start() {
			err := w.savepoint(t, c)
			if errors.Is(err, errLost) {
				w.abort()
				w.answer(c, errors.Unwrap(err))
				return append(ran, group[i+1:]...)
			}
			ran = append(ran, c)
			errs = append(errs, err)
		}
		if i == len(group)-1 {
			group = w.gather(group, limit)
		}
	}
	err = t.saveState(before)
	if err == nil {
		_, err = t.exec(`COMMIT`)
	}
	if err != nil {
		w.abort()
	} else {
		err = w.file.same() // only what a later start finds is answered as done
	}
	for i, c := range ran {
		if err != nil {
			w.answer(c, err) // also those that failed: they may have seen what did not come to be
		} else {
			w.answer(c, errs[i])
		}
	}
	return nil
}

// lostError carries the reason of the change that was run when the transaction
// went.
type lostError struct{ reason error }

func (e lostError) Error() string     { return errLost.Error() }
func (e lostError) Is(err error) bool { return err == errLost }
func (e lostError) Unwrap() error     { return e.reason }

// savepoint runs one change so that its failure leaves nothing behind.
func (w *writer) savepoint(t *tx, c *job) error {
	if c.plain != nil {
		err := c.call(t)
		if err != nil && !c.plain(err) {
			return lostError{err}
		}
		return err
	}
	st := t.st
	_, err := t.exec(`SAVEPOINT one`)
	if err != nil {
		return lostError{err}
	}
	err = c.call(t)
	if err != nil {
		t.st = st
		if _, lost := t.exec(`ROLLBACK TO one`); lost != nil {
			return lostError{err}
		}
	}
	if _, lost := t.exec(`RELEASE one`); lost != nil {
		return lostError{errors.Join(err, lost)}
	}
	return err
}

func (c *job) call(t *tx) (err error) {
	c.panicked = ""
	defer func() {
		if p := recover(); p != nil {
			c.panicked = fmt.Sprintf("storage/sqlite: in a change: %v\n%s", p, debug.Stack())
			err = errPanicked
		}
	}()
	return c.run(t)
}

// begin opens a transaction, and a connection if there is none, and reads the
// state row.
func (w *writer) begin() (*tx, error) {
	if err := w.file.same(); err != nil {
		return nil, err
	}
	if w.conn == nil {
		conn, err := w.open()
		if err != nil {
			return nil, fault(w.ctx, err)
		}
		w.conn = conn
		if err := w.checkMode(); err != nil {
			w.abort()
			return nil, err
		}
	}
	t := &tx{w: w}
	if _, err := t.exec(`BEGIN IMMEDIATE`); err != nil {
		w.abort()
		return nil, err
	}
	if err := t.loadState(); err != nil {
		w.abort()
		return nil, err
	}
	return t, nil
}

// checkMode looks at what no pragma of a connection can promise: without a
// write-ahead log a commit could be lost with the power. The file got one when
// it was opened first, so later it is another file.
func (w *writer) checkMode() error {
	mode, err := one(&tx{w: w}, column[string], `PRAGMA journal_mode`)
	switch {
	case err != nil:
		return err
	case mode == "wal":
		w.wasWAL = true
		return nil
	case w.wasWAL:
		return unavailable(reasonNotOurs, nil)
	default:
		return unavailable(reasonNoWAL, nil)
	}
}

// abort ends whatever transaction there may be by giving the connection up:
// closing one rolls it back, and no cached page or statement survives the
// trouble.
func (w *writer) abort() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
}
