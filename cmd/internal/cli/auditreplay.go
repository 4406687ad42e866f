package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// replayFilter says which events to show.
type replayFilter struct {
	from, to   uint64
	kinds      []string
	specialist string
	voter      string // a pseudonym
}

func (f *replayFilter) matches(e domain.Event) bool {
	kind := domain.Kind(e)
	return (len(f.kinds) == 0 || slices.ContainsFunc(f.kinds, func(k string) bool { return kind == k || strings.HasPrefix(kind, k+".") })) &&
		(f.specialist == "" || subjectToken(e, "specialist") == f.specialist || specialistOf(e) == f.specialist) &&
		(f.voter == "" || subjectToken(e, "voter") == f.voter || subjectToken(e, "annulment") == f.voter)
}

// subjectToken is the last part of an event's subject if it is of a kind.
func subjectToken(e domain.Event, kind string) string {
	parts := strings.Split(domain.Subject(e), ".")
	if len(parts) == 4 && parts[2] == kind {
		return parts[3]
	}
	return ""
}

func specialistOf(e domain.Event) string {
	switch d := e.Data.(type) {
	case domain.VoteCast:
		return d.Specialist
	case domain.VoteRetracted:
		return d.Specialist
	case domain.VoteAnnulled:
		return d.Specialist
	}
	return ""
}

func (a *app) auditReplayCommand() *cobra.Command {
	var f replayFilter
	cmd := &cobra.Command{
		Use:   "replay --campaign ID | replay --log DIR",
		Short: "Print events as they were recorded, a line each",
		Long: "Print events in their order, a line each: sequence, time and what happened, or with\n" +
			"-o json the bytes as they were recorded, which are what is hashed and signed.\n" +
			"From the ledger, or with --log from a copy of the log; `audit verify` tells whether\n" +
			"they can be believed.",
		Args: cobra.NoArgs,
	}
	campaign := cmd.Flags().String("campaign", "", "id of the campaign")
	dir := logFlag(cmd, "a log's folder to read instead of the ledger; no server is needed")
	cmd.Flags().Uint64Var(&f.from, "from", 1, "first sequence")
	cmd.Flags().Uint64Var(&f.to, "to", 0, "last sequence; 0 for the end")
	cmd.Flags().StringSliceVar(&f.kinds, "type", nil, "only these types, for example vote.cast or vote,campaign")
	cmd.Flags().StringVar(&f.specialist, "specialist", "", "only events about this specialist")
	cmd.Flags().StringVar(&f.voter, "pseudonym", "", "only events of this voter: a pseudonym of 32 hexadecimal digits")
	notFromEnvironment(cmd, "from", "to", "type", "specialist", "pseudonym")
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.to != 0 && f.to < f.from {
			return usagef("--from %d --to %d: nothing lies between", f.from, f.to)
		}
		return a.onEvents(cmd, *campaign, *dir, func(ctx context.Context, l audit.Ledger, _ uint64) error {
			return a.replay(ctx, l, f, *format)
		})
	}
	return cmd
}

// onEvents runs fn with a campaign's ledger, or with a copy of the log where a
// folder is given, and the sequence of the last event.
func (a *app) onEvents(cmd *cobra.Command, campaign, dir string, fn func(ctx context.Context, l audit.Ledger, last uint64) error) error {
	if dir != "" {
		size, err := logSize(dir)
		if err != nil {
			return err
		}
		return fn(cmd.Context(), transparency.Entries{Folder: transparency.NewFolder(dir), Size: size}, size)
	}
	if campaign == "" {
		return usagef("--campaign or --log is needed; see `%s --help`", cmd.CommandPath())
	}
	return a.withLedger(cmd, campaign, func(ctx context.Context, l *eventstore.Ledger) error {
		info, err := l.Info(ctx)
		if err != nil {
			return err
		}
		return fn(ctx, l, info.Last)
	})
}

// logSize is how many events a log's own checkpoint says it has.
func logSize(dir string) (uint64, error) {
	f, err := existingLog(dir)
	if err != nil {
		return 0, err
	}
	keys, err := f.Keys()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, noLog(dir, "any")
	}
	if err != nil {
		return 0, err
	}
	c, err := f.Checkpoint(keys)
	return c.Size, err
}

func (a *app) replay(ctx context.Context, l audit.Ledger, f replayFilter, format format) error {
	out := bufio.NewWriter(a.out)
	err := l.Replay(ctx, f.from, f.to, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := a.codec.Decode(rec.Data)
			if err == nil && !f.matches(e) {
				continue
			}
			// One that cannot be read is shown all the same: somebody may be
			// looking for it.
			switch {
			case err != nil && format == asJSON:
				_, err = fmt.Fprintf(out, `{"sequence":%d,"error":%s,"bytes":%q}`+"\n", rec.Sequence, strconv.Quote(plain(err.Error())), base64.StdEncoding.EncodeToString(rec.Data))
			case err != nil:
				_, err = fmt.Fprintf(out, "%9d  cannot be read: %s: %s\n", rec.Sequence, plain(err.Error()), strconv.QuoteToGraphic(string(rec.Data)))
			case format == asJSON && !bytes.ContainsAny(rec.Data, "\r\n"):
				_, err = fmt.Fprintf(out, `{"sequence":%d,"event":%s}`+"\n", rec.Sequence, rec.Data)
			case format == asJSON:
				_, err = fmt.Fprintf(out, `{"sequence":%d,"bytes":%q}`+"\n", rec.Sequence, base64.StdEncoding.EncodeToString(rec.Data))
			default:
				_, err = fmt.Fprintf(out, "%9d  %s  %-24s  %s\n", rec.Sequence, domain.FormatTime(e.Time), domain.Kind(e), plain(subjectLine(e)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	return err
}

// subjectLine says in words what the kind of an event leaves open.
func subjectLine(e domain.Event) string {
	switch d := e.Data.(type) {
	case domain.VoteCast, domain.VoteRetracted, domain.VoteAnnulled:
		return describe(e)
	case domain.CampaignOpened:
		return d.Title
	case domain.SpecialistRegistered:
		return d.Specialist + " " + d.Name
	case domain.SpecialistUpdated:
		return d.Specialist + " " + d.Name
	case domain.SpecialistWithdrawn:
		return d.Specialist + " " + d.Reason
	case domain.SpecialistMerged:
		return d.Specialist + " into " + d.Into
	case domain.ResultsDecided:
		return fmt.Sprintf("%s %v", d.Award, d.Winners)
	case domain.ResultsCertified:
		return fmt.Sprintf("as of event %d", d.Sequence)
	case domain.ResultsPublished:
		return fmt.Sprintf("those of event %d", d.Certified)
	default:
		return ""
	}
}
