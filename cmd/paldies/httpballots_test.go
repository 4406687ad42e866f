package main

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// deskClients is how many clients hand in a set's rows beside each other.
const deskClients = 512

// row is a line of a set's votes.
type row struct{ id, voter, specialist, channel, action, at string }

// TestBallotsOverHTTP hands in every set of ballots over HTTP, at a node and at
// a worker beside it, and wants of the ledger what it wants after an import.
//
// The data are of the past, and over HTTP only the desk for paper slips may say
// so: rows of the channel in_person state when they were cast, all others are
// cast now, and the campaigns last from then until now.
func TestBallotsOverHTTP(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	tokens := make(map[string]string)
	for _, channel := range []string{"web", "mobile", "in_person"} {
		tokens[channel] = addToken(t, data, channel)
	}
	at := workersAt(node, startWorker(t, data))
	node.becomesReady(t)
	for _, set := range ballotSets(t) {
		t.Run(set.name, func(t *testing.T) {
			openForVotes(t, data, set.name, filepath.Join(set.dir, "specialists.csv"), "--votes-per-voter", fmt.Sprint(set.votesPerVoter))
			rows := set.rows(t)[1:]
			begun := time.Now()
			got := set.handIn(t, at, tokens, rows)
			t.Logf("%d rows, %.0f a second", len(rows), float64(len(rows))/time.Since(begun).Seconds())
			want := make(map[string]int)
			if set.alreadyVoted > 0 {
				want["already_voted"] = set.alreadyVoted
			}
			if got.recorded+set.alreadyVoted != len(rows) || !maps.Equal(got.refused, want) {
				t.Errorf("%d rows: %d recorded, refused %v, want %v", len(rows), got.recorded, got.refused, want)
			}
			set.assertExpected(t, data)
		})
	}
	node.stop(t)
}

// outcome is what came of rows.
type outcome struct {
	recorded int
	refused  map[string]int
}

// handIn sends rows by several clients, those of one voter by one of them, in
// their order.
func (s ballotSet) handIn(t *testing.T, at *workers, tokens map[string]string, rows [][]string) outcome {
	t.Helper()
	shares := make([][]row, deskClients)
	for _, r := range rows {
		h := fnv.New32a()
		h.Write([]byte(r[1]))
		share := h.Sum32() % deskClients
		shares[share] = append(shares[share], row{r[0], r[1], r[2], r[3], r[4], r[5]})
	}
	var mu sync.Mutex // guards all
	all := outcome{refused: make(map[string]int)}
	var clients sync.WaitGroup
	for place, share := range shares {
		clients.Go(func() {
			c := &client{workers: at, place: place, ended: t.Context().Done(), random: rand.New(rand.NewPCG(0, uint64(place)))}
			defer c.hangUp()
			o, err := s.handInShare(c, tokens, share)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("client %d: %v", place, err)
			}
			all.recorded += o.recorded
			for code, n := range o.refused {
				all.refused[code] += n
			}
		})
	}
	clients.Wait()
	return all
}

// handInShare sends rows one after another.
func (s ballotSet) handInShare(c *client, tokens map[string]string, rows []row) (outcome, error) {
	o := outcome{refused: make(map[string]int)}
	receipts := make(map[[2]string]uint64) // of the last vote, by voter and specialist
	for _, r := range rows {
		pair, castAt := [2]string{r.voter, r.specialist}, ""
		if r.channel == "in_person" {
			castAt = r.at
		}
		asked := voteRequest(s.name, tokens[r.channel], r.id, r.voter, r.specialist, castAt)
		if r.action == "retract" {
			asked = retractRequest(s.name, tokens[r.channel], r.id, r.voter, receipts[pair])
		}
		a, err := c.insist(asked)
		switch {
		case err != nil:
			return o, fmt.Errorf("row %s: %w", r.id, err)
		case a.status == http.StatusCreated && r.action == "vote":
			receipts[pair] = a.sequence
			o.recorded++
		case a.status == http.StatusCreated:
			o.recorded++
		default:
			o.refused[a.code]++
			if a.code == "already_voted" && a.sequence != receipts[pair] {
				return o, fmt.Errorf("row %s: the receipt is %d, and the refusal names %d", r.id, receipts[pair], a.sequence)
			}
		}
	}
	return o, nil
}
