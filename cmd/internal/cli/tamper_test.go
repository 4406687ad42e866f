package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// holds is what a process says that has a data directory to itself.
const holds = "open\n"

// hold keeps a data directory open until the input ends.
func hold(dataDir string) error {
	n, err := node.Open(context.Background(), node.Config{DataDir: dataDir, Command: "hold"})
	if err != nil {
		return err
	}
	if _, err := fmt.Print(holds); err != nil {
		return errors.Join(err, n.Close())
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, n.Close())
}

// loseRecordMain is `lose-record DATA`: what the server knows of what was signed
// is lost.
func loseRecordMain() {
	ctx := context.Background()
	n, err := node.Open(ctx, node.Config{DataDir: os.Args[1], Command: "lose-record"})
	if err == nil {
		var js jetstream.JetStream
		if js, err = jetstream.New(n.Conn()); err == nil {
			err = js.DeleteKeyValue(ctx, "paldies_signed")
		}
		// The server answers before the files are gone, and one that starts beside
		// the rest of them takes it for a stream that it has lost.
		rest := filepath.Join(os.Args[1], "jetstream", "$G", "streams", ".KV_paldies_signed")
		if gone := func() bool { _, err := os.Stat(rest); return errors.Is(err, fs.ErrNotExist) }; !poll(gone) {
			err = errors.Join(err, fmt.Errorf("%s is still there after %v", rest, waitMax))
		}
		err = errors.Join(err, n.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// tamperMain is `tamper DATA CAMPAIGN WHAT…`: somebody who has the data
// directory writes straight into its ledger, past every rule.
func tamperMain() {
	if err := tamper(context.Background(), os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// forger knows a campaign as whoever can read its ledger does.
type forger struct {
	campaign string
	now      time.Time
	vote     domain.VoteCast // the first one
	at       uint64          // its sequence
	stranger domain.Pseudonym
	last     map[string]uint64 // sequence of the last event, by subject
	subjects map[uint64]string // of each event
}

// forgery is an event for a place where it need not belong.
type forgery struct {
	data    domain.Payload
	subject string    // empty: where it belongs
	time    time.Time // zero: now
	raw     []byte    // instead of an event
}

// forgeries are what can be written into a ledger by hand.
var forgeries = map[string]func(f *forger) forgery{
	"second-vote": func(f *forger) forgery {
		d := f.vote
		d.Active++
		return forgery{data: d}
	},
	"vote-over-limit": func(f *forger) forgery {
		d := f.vote
		d.Specialist, d.Active = "zanete-kirsone", d.Active+1
		return forgery{data: d}
	},
	"vote-for-nobody": func(f *forger) forgery { return forgery{data: f.cast("neviens", "web", 1)} },
	"vote-by-nothing": func(f *forger) forgery { return forgery{data: f.cast(f.vote.Specialist, "telegramma", 1)} },
	"foreign-subject": func(f *forger) forgery {
		return forgery{data: f.cast(f.vote.Specialist, "web", 1), subject: f.subjects[f.at]}
	},
	"wrong-active": func(f *forger) forgery { return forgery{data: f.cast(f.vote.Specialist, "web", 7)} },
	"too-early": func(f *forger) forgery {
		d := f.cast(f.vote.Specialist, "web", 1)
		d.CastAt = time.Date(1918, 11, 18, 12, 0, 0, 0, time.UTC)
		return forgery{data: d}
	},
	"late": func(f *forger) forgery {
		return forgery{data: f.cast(f.vote.Specialist, "web", 1), time: f.now.Add(2 * time.Hour)}
	},
	"under-way": func(f *forger) forgery { return forgery{data: f.cast(f.vote.Specialist, "web", 1)} },
	"foreign-retraction": func(f *forger) forgery {
		return forgery{data: domain.VoteRetracted{Voter: f.stranger, Specialist: f.vote.Specialist, Channel: "web", Vote: f.ref()}}
	},
	"annulment-without-close": func(f *forger) forgery {
		return forgery{data: domain.VoteAnnulled{Voter: f.vote.Voter, Specialist: f.vote.Specialist, Vote: f.ref(),
			Decision: "SIF-2018/0", Reason: "bez lēmuma", AfterClose: true}}
	},
	"second-opening": func(f *forger) forgery {
		return forgery{data: domain.CampaignOpened{Title: "Vēlreiz", OpensAt: f.now, ClosesAt: f.now.Add(time.Hour), Timezone: "Europe/Riga",
			Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}}, KeyID: domain.PseudonymKey{}.ID()}}
	},
	"escaping-channel": func(f *forger) forgery {
		return forgery{data: f.cast(f.vote.Specialist, "x\x1b[2K\x1b[1A\nok    All good", 1)}
	},
	"half-merge": func(f *forger) forgery { // as one that was killed after its first event
		return forgery{data: domain.SpecialistMerged{Specialist: f.vote.Specialist, Into: "zanete-kirsone", Decision: "VK-2018/1"}}
	},
	"half-archive": func(*forger) forgery { return forgery{data: domain.CampaignArchived{}} }, // killed there, too
	"withdrawal": func(f *forger) forgery {
		return forgery{data: domain.SpecialistWithdrawn{Specialist: f.vote.Specialist}}
	},
	"garbage": func(f *forger) forgery { return forgery{raw: []byte("nav notikums"), subject: f.subjects[f.at]} },
	"unknown-kind": func(f *forger) forgery {
		return forgery{subject: f.subjects[f.at], raw: fmt.Appendf(nil,
			`{"specversion":"1.0","id":%q,"source":"/campaigns/%s","type":"lv.sakipaldies.vote.blessed.v1","time":%q,"data":{}}`,
			uuid.New(), f.campaign, domain.FormatTime(f.now))}
	},
}

// cast is a vote of a voter whom nobody knows.
func (f *forger) cast(specialist, channel string, active int) domain.VoteCast {
	return domain.VoteCast{Voter: f.stranger, Specialist: specialist, Channel: channel, Active: active}
}

// ref describes the first vote as it is.
func (f *forger) ref() domain.VoteRef {
	return domain.VoteRef{Sequence: f.at, Channel: f.vote.Channel, CastAt: f.vote.CastAt}
}

func tamper(ctx context.Context, dataDir, campaign string, what []string) (err error) {
	codec, err := domain.NewCodec()
	if err != nil {
		return err
	}
	n, err := node.Open(ctx, node.Config{DataDir: dataDir, Command: "tamper"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if slices.Equal(what, []string{"stream"}) {
		return tamperStream(ctx, n, campaign)
	}
	l, err := n.OpenLedger(ctx, ledgerConfig(n, campaign))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	for _, name := range what {
		forge, ok := forgeries[name]
		if !ok {
			return fmt.Errorf("no forgery %s; there are %s and stream", name, strings.Join(slices.Sorted(maps.Keys(forgeries)), ", "))
		}
		f, err := readAsForger(ctx, l, codec, campaign)
		if err != nil {
			return err
		}
		if err := f.write(ctx, l, name, forge(f)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// readAsForger learns what a forgery needs. Events that cannot be decoded,
// which are forgeries themselves, are no obstacle.
func readAsForger(ctx context.Context, l *eventstore.Ledger, codec *domain.Codec, campaign string) (*forger, error) {
	f := &forger{campaign: campaign, now: domain.Timestamp(time.Now()), stranger: domain.Pseudonym(uuid.New()),
		last: make(map[string]uint64), subjects: make(map[uint64]string)}
	err := eventstore.WithSubjects{Ledger: l}.Replay(ctx, 1, 0, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			f.last[rec.Subject], f.subjects[rec.Sequence] = rec.Sequence, rec.Subject
			e, err := codec.Decode(rec.Data)
			if err != nil || f.at != 0 {
				continue
			}
			if d, ok := e.Data.(domain.VoteCast); ok {
				f.vote, f.at = d, rec.Sequence
				if f.vote.CastAt.IsZero() {
					f.vote.CastAt = e.Time
				}
			}
		}
		return nil
	})
	return f, err
}

// write appends a forgery and says where it is.
func (f *forger) write(ctx context.Context, l *eventstore.Ledger, name string, forged forgery) error {
	m := eventstore.Message{Subject: forged.subject, Data: forged.raw}
	if m.Data == nil {
		e := domain.Event{ID: uuid.New(), Campaign: f.campaign, Time: forged.time, Data: forged.data}
		if e.Time.IsZero() {
			e.Time = f.now
		}
		var err error
		if m.Data, err = domain.Encode(e); err != nil {
			return err
		}
		if m.Subject == "" {
			m.Subject = domain.Subject(e)
		}
	}
	appended, err := l.Append(ctx, m, f.last[m.Subject])
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s %d\n", name, appended.Sequence)
	return err
}

// tamperStream tries to remove an event, which the server must refuse, and
// then lets the stream forget.
func tamperStream(ctx context.Context, n *node.Node, campaign string) error {
	js, err := jetstream.New(n.Conn())
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, domain.StreamName(campaign))
	if err != nil {
		return err
	}
	if err := stream.DeleteMsg(ctx, 2); err == nil {
		return errors.New("event 2 could be deleted")
	}
	if err := stream.Purge(ctx); err == nil {
		return errors.New("the stream could be purged")
	}
	c := stream.CachedInfo().Config
	c.MaxMsgs, c.Discard = 2, jetstream.DiscardOld
	_, err = js.UpdateStream(ctx, c)
	return err
}
