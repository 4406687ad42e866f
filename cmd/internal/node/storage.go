package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"sakipaldies.lv/ledger/eventstore"
)

// ErrStorageFull says that there is no room for more events. What was
// acknowledged is safe.
var ErrStorageFull = errors.New("the disk is full")

// diskFreeMin is the free space below which a disk counts as full, in bytes:
// it is a batch of the largest events (1000 of 16 KiB).
const diskFreeMin = 16 << 20

// JetStream's error codes for a server that has no room. The list is that of
// errors.json in nats-server 2.15.
const (
	codeAccountExceeded jetstream.ErrorCode = 10002 // the account's limit
	codeInsufficient    jetstream.ErrorCode = 10023 // the server's limit, on append
	codeStorageExceeded jetstream.ErrorCode = 10047 // the server's limit, on creation
	codeStoreFailed     jetstream.ErrorCode = 10077 // any failure of the store, told by its text
)

// Texts by which errors of the operating system are known once the server has
// turned them into text; it tells them apart in the same way itself.
const (
	outOfSpace = "no space left"
	overQuota  = "quota exceeded"
)

// IsDiskFull reports whether an error says that a disk is full or that a
// server has reached the limit of what it stores.
//
// A server whose file system is full says nothing at all: the append times
// out, and the stream takes no event until the server is started again.
// Node.Explain recognises that case.
func IsDiskFull(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case codeAccountExceeded, codeInsufficient, codeStorageExceeded:
			return true
		case codeStoreFailed:
			return saysFull(api.Description)
		}
	}
	return errors.Is(err, ErrStorageFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, errnoDiskFull)
}

func saysFull(text string) bool {
	return strings.Contains(text, outOfSpace) || strings.Contains(text, overQuota)
}

// fullError puts a full disk into words.
func fullError(dataDir string, err error) error {
	return fmt.Errorf("%w: free space on the disk of %s and run the command again, nothing that was acknowledged is lost (%w)", ErrStorageFull, dataDir, err)
}

// Explain adds to an error of the ledger what this node knows about its cause:
// a full disk becomes ErrStorageFull. Other errors are returned as they are.
func (n *Node) Explain(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrStorageFull):
		return err
	case IsDiskFull(err) && n.Embedded():
		return fullError(n.DataDir(), err)
	case IsDiskFull(err):
		return fmt.Errorf("%w at %s: let the server store more (max_file_store, or the account's limit) and run the command again, nothing that was acknowledged is lost (%w)",
			ErrStorageFull, n.URL(), err)
	case n.Embedded() && isSilence(err) && n.diskFull():
		return fullError(n.DataDir(), err)
	default:
		return err
	}
}

// isSilence reports whether an error says that an answer did not come.
func isSilence(err error) bool {
	for _, silence := range []error{
		eventstore.ErrOutcomeUnknown, eventstore.ErrUnavailable,
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse,
	} {
		if errors.Is(err, silence) {
			return true
		}
	}
	return false
}

// diskFull asks the embedded server for a failed write and for its limit, then
// the file system.
func (n *Node) diskFull() bool {
	if saysFull(n.server.health()) || n.server.limitReached() {
		return true
	}
	free, err := diskFree(n.DataDir())
	return err == nil && free < diskFreeMin
}
