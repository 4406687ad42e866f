package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

// voteFilter says which votes to list.
type voteFilter struct {
	voter      *domain.Pseudonym
	specialist string
	channel    string
	cast       period // of cast_at
	recorded   period // of recorded_at
}

// period is the time between two moments, the second one not included. A moment
// that is zero is no limit.
type period struct{ from, to time.Time }

func (p period) includes(t time.Time) bool {
	return (p.from.IsZero() || !t.Before(p.from)) && (p.to.IsZero() || t.Before(p.to))
}

func (f voteFilter) matches(v listedVote) bool {
	return (f.voter == nil || v.voter == *f.voter) &&
		(f.specialist == "" || v.specialist == f.specialist) &&
		(f.channel == "" || v.channel == f.channel) &&
		f.cast.includes(v.castAt) && f.recorded.includes(v.recordedAt)
}

// listedVote is one vote and what became of it.
type listedVote struct {
	sequence   uint64
	recordedAt time.Time
	castAt     time.Time
	voter      domain.Pseudonym
	specialist string
	channel    string
	status     string
}

func (a *app) voteListCommand() *cobra.Command {
	var voter string
	var filter voteFilter
	cmd := &cobra.Command{
		Use:   "list --campaign ID",
		Short: "List votes and what became of them, for example for `vote annul`",
		Args:  cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	keyFile := keyFileFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&voter, "voter", "", "only this voter: an id (needs the key), - for one on standard input, or a pseudonym of 32 hexadecimal digits")
	f.StringVar(&filter.specialist, "specialist", "", "only votes for this specialist")
	f.StringVar(&filter.channel, "channel", "", "only votes by this channel")
	from := timeFlag(cmd, "from", "only votes cast at or after this moment")
	to := timeFlag(cmd, "to", "only votes cast before this moment")
	recordedFrom := timeFlag(cmd, "recorded-from", "only votes recorded at or after this moment")
	recordedTo := timeFlag(cmd, "recorded-to", "only votes recorded before this moment")
	notFromEnvironment(cmd, "voter", "specialist", "channel", "from", "to", "recorded-from", "recorded-to")
	format := formatFlag(cmd, asCSV, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		filter.cast, filter.recorded = period{*from, *to}, period{*recordedFrom, *recordedTo}
		byVoter := cmd.Flags().Changed("voter")
		if byVoter {
			var err error
			if voter, err = a.voterID(voter); err != nil {
				return err
			}
			if _, err := domain.NormaliseVoterID(voter); err != nil {
				return usageError{err}
			}
		}
		return a.withLedger(cmd, *campaign, func(ctx context.Context, l *eventstore.Ledger) error {
			if byVoter {
				p, err := a.pseudonym(ctx, l, voter, intakeOptions{campaign: *campaign, keyFile: *keyFile})
				if err != nil {
					return err
				}
				filter.voter = &p
			}
			votes, err := a.listVotes(ctx, l, filter)
			if err != nil {
				return err
			}
			return a.printVotes(*format, votes)
		})
	}
	return cmd
}

// pseudonym takes a pseudonym as it is and makes one of anything else, if the
// key is the campaign's: under another one, nobody would seem to have voted.
func (a *app) pseudonym(ctx context.Context, l *eventstore.Ledger, voter string, o intakeOptions) (domain.Pseudonym, error) {
	var p domain.Pseudonym
	if p.UnmarshalText([]byte(voter)) == nil {
		return p, nil
	}
	key, err := a.loadKey(o)
	if err != nil {
		return p, err
	}
	if _, err := intake.New(ctx, intake.Config{Campaign: o.campaign, Ledger: l, Codec: a.codec, Key: &key, Now: a.now}); err != nil {
		return p, err
	}
	return key.Voter(voter)
}

// listVotes replays the ledger: what became of a vote stands in later events.
func (a *app) listVotes(ctx context.Context, l *eventstore.Ledger, filter voteFilter) ([]listedVote, error) {
	var votes []listedVote
	place := make(map[uint64]int)
	var register domain.Register
	take := func(vote uint64, status string) {
		if i, ok := place[vote]; ok {
			votes[i].status = status
		}
	}
	err := projections.Replay(ctx, l, a.codec, 1, 0, func(sequence uint64, e domain.Event) error {
		if err := register.Apply(sequence, e); err != nil {
			return err
		}
		void := register.Campaign().Void(sequence)
		switch d := e.Data.(type) {
		case domain.VoteCast:
			v := listedVote{sequence: sequence, recordedAt: e.Time, castAt: d.CastAt, voter: d.Voter,
				specialist: d.Specialist, channel: d.Channel, status: "in_force"}
			if v.castAt.IsZero() {
				v.castAt = e.Time
			}
			if void {
				v.status = "void"
			}
			if filter.matches(v) {
				place[sequence] = len(votes)
				votes = append(votes, v)
			}
		case domain.VoteRetracted:
			if !void {
				take(d.Vote.Sequence, "retracted")
			}
		case domain.VoteAnnulled:
			if d.AfterClose {
				void = register.Campaign().VoidAnnulment(sequence, d.Vote.Sequence)
			}
			if !void {
				take(d.Vote.Sequence, "annulled")
			}
		}
		return nil
	})
	return votes, err
}

func (a *app) printVotes(f format, votes []listedVote) error {
	columns := []string{"sequence", "recorded_at", "cast_at", "voter", "specialist_id", "channel", "status"}
	fields := func(v listedVote) []string {
		return []string{strconv.FormatUint(v.sequence, 10), domain.FormatTime(v.recordedAt), domain.FormatTime(v.castAt),
			v.voter.String(), v.specialist, v.channel, v.status}
	}
	if f == asCSV { // written row by row: it may be millions
		w := csv.NewWriter(a.out)
		if err := w.Write(columns); err != nil {
			return err
		}
		for _, v := range votes {
			if err := w.Write(fields(v)); err != nil {
				return err
			}
		}
		w.Flush()
		if err := w.Error(); err != nil {
			return err
		}
		_, err := fmt.Fprintf(a.err, "%d votes\n", len(votes))
		return err
	}
	l := listing{columns: columns}
	objects := make([]map[string]any, 0, len(votes))
	for _, v := range votes {
		l.rows = append(l.rows, fields(v))
		objects = append(objects, map[string]any{"sequence": v.sequence, "recorded_at": v.recordedAt, "cast_at": v.castAt,
			"voter": v.voter, "specialist_id": v.specialist, "channel": v.channel, "status": v.status})
	}
	l.value = objects
	return a.print(f, l)
}
