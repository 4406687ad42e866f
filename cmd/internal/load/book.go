package load

import (
	"math/rand/v2"
	"sync"

	"github.com/google/uuid"
)

// state is what is known of a new vote.
type state uint8

const (
	unknown      state = iota // not answered, or not in a way that tells
	acknowledged              // recorded, as the entry says
	refused                   // not recorded, and never will be
)

// entry is what was answered to a new vote. It takes 32 bytes.
type entry struct {
	eventID  uuid.UUID
	sequence uint64
	digest   uint32 // of the body; a changed body passes once in four billion times
	state    state
}

// pageEntries is how many entries are allocated together: 256 KiB.
const pageEntries = 1 << 13

// book is what was answered to the new votes of a run, by their number. It
// grows by pages, so that nothing is ever copied.
type book struct {
	mu    sync.Mutex // guards all below
	pages []*[pageEntries]entry
	n     int
}

// add opens an entry for one more vote, of which nothing is known yet.
func (b *book) add() (vote uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == len(b.pages)*pageEntries {
		b.pages = append(b.pages, new([pageEntries]entry))
	}
	b.n++
	return uint32(b.n - 1)
}

func (b *book) set(vote uint32, e entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pages[vote/pageEntries][vote%pageEntries] = e
}

func (b *book) get(vote uint32) entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pages[vote/pageEntries][vote%pageEntries]
}

func (b *book) votes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// draw finds a vote that was acknowledged.
func (b *book) draw(random *rand.Rand) (vote uint32, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == 0 {
		return 0, false
	}
	for range maxDraws {
		vote := uint32(random.IntN(b.n))
		if b.pages[vote/pageEntries][vote%pageEntries].state == acknowledged {
			return vote, true
		}
	}
	return 0, false
}
