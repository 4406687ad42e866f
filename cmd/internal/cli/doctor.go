package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// errUnwell says that doctor found something to mend and has printed it.
var errUnwell = errors.New("something must be mended")

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what endangers the ledgers, and say the remedy",
		Long: "Look for what endangers the ledgers, and say the remedy.\n\n" +
			"Exit code 1 says that something must be mended. What cannot be seen from here is\n" +
			"unknown, which is said and not held against anyone.",
		Args: cobra.NoArgs,
	}
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
			findings, err := a.examine(ctx, n)
			if err != nil {
				return err
			}
			warnings := 0
			for _, f := range findings {
				if f.Status == node.Warning {
					warnings++
				}
			}
			if err := a.printFindings(*format, findings, warnings == 0); err != nil {
				return err
			}
			if warnings > 0 {
				return fmt.Errorf("%w: %d of %d checks warn", errUnwell, warnings, len(findings))
			}
			return nil
		})
	}
	return cmd
}

// diagnosis is what doctor found, for programs.
type diagnosis struct {
	OK       bool          `json:"ok"`
	Findings []findingView `json:"findings"`
}

type findingView struct {
	Status string `json:"status"` // ok, warning or unknown
	What   string `json:"what"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

func (a *app) printFindings(f format, findings []node.Finding, ok bool) error {
	d := diagnosis{OK: ok}
	width := 0
	for _, finding := range findings {
		d.Findings = append(d.Findings, findingView{finding.Status.String(), finding.Name, finding.Detail, finding.Remedy})
		width = max(width, len(finding.Name)) // names are ASCII
	}
	if f == asJSON {
		return printJSON(a.out, d)
	}
	var text strings.Builder
	for _, v := range d.Findings {
		line := fmt.Sprintf("%-7s  %-*s  ", v.Status, width, v.What)
		fmt.Fprintf(&text, "%s%s\n", line, v.Detail)
		if v.Remedy != "" {
			fmt.Fprintf(&text, "%*s%s\n", len(line), "", v.Remedy)
		}
	}
	_, err := io.WriteString(a.out, text.String())
	return err
}

// examine looks at everything, the node first.
func (a *app) examine(ctx context.Context, n *node.Node) ([]node.Finding, error) {
	findings, err := n.Durability(ctx)
	if err != nil {
		return nil, err
	}
	copies, err := n.Copies(ctx)
	if err != nil {
		return nil, err
	}
	findings = append(findings, copies...)
	build, _ := debug.ReadBuildInfo() // nil only in builds without modules
	findings = append(findings, versionsFinding(build, n.Conn().ConnectedServerVersion()))
	campaigns, err := nodeCampaigns{a, n}.List(ctx)
	if err != nil {
		return nil, err
	}
	newest := buildTime(build)
	for _, id := range campaigns {
		c := campaignDoctor{app: a, node: n, id: id}
		findings = append(findings, c.examine(ctx)...)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if c.newest.After(newest) {
			newest = c.newest
		}
	}
	return append(findings, clockFinding(a.now(), newest)), nil
}

// versionsFinding names what is to be known before a fault is reported.
func versionsFinding(build *debug.BuildInfo, server string) node.Finding {
	paldies := "an unknown build"
	if build != nil {
		paldies = build.Main.Version
		if revision := setting(build, "vcs.revision"); revision != "" {
			paldies += " " + revision[:min(len(revision), 12)]
		}
		if setting(build, "vcs.modified") == "true" {
			paldies += " with changes"
		}
	}
	return node.Finding{Name: "versions", Detail: fmt.Sprintf("paldies %s, %s for %s/%s, nats-server %s.",
		strings.TrimSpace(paldies), runtime.Version(), runtime.GOOS, runtime.GOARCH, server)}
}

func setting(build *debug.BuildInfo, key string) string {
	for _, s := range build.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// buildTime is when the program's source was committed, a moment that no right
// clock is before.
func buildTime(build *debug.BuildInfo) time.Time {
	if build == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, setting(build, "vcs.time"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// clockFinding compares the clock with the newest moment that is known to have
// been: a clock that is behind refuses votes and records wrong times. It may be
// as far behind as a vote's own time may be ahead.
func clockFinding(now, newest time.Time) node.Finding {
	f := node.Finding{Name: "clock", Detail: fmt.Sprintf("It is %s; nothing was recorded later than that.", domain.FormatTime(now))}
	if newest.Sub(now) > domain.MaxClockSkew {
		f.Status = node.Warning
		f.Detail = fmt.Sprintf("It is %s here, and something was recorded at %s.", domain.FormatTime(now), domain.FormatTime(newest))
		f.Remedy = "Set the clock, and keep it right with NTP: every vote is recorded with its time."
	}
	return f
}

// campaignDoctor examines one campaign.
type campaignDoctor struct {
	app  *app
	node *node.Node
	id   string

	ledger *eventstore.Ledger
	newest time.Time // when its last event was stored
}

func (c *campaignDoctor) finding(what string) node.Finding {
	return node.Finding{Name: c.id + " " + what}
}

func (c *campaignDoctor) warning(what, remedy, format string, args ...any) node.Finding {
	f := c.finding(what)
	f.Status, f.Remedy, f.Detail = node.Warning, remedy, sentence(fmt.Sprintf(format, args...))
	return f
}

// sentence makes one of the text of an error.
func sentence(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// examine looks at stream, events and key. A fault in one campaign does not
// keep the others from being examined.
func (c *campaignDoctor) examine(ctx context.Context) []node.Finding {
	var err error
	if c.ledger, err = c.app.openLedger(ctx, c.node, c.id); err != nil {
		return []node.Finding{c.warning("stream", "Nobody can vote or count in this campaign until it can be opened.", "%v", err)}
	}
	campaign, err := c.campaign(ctx)
	archived := err == nil && campaign.ArchivedAt != 0
	findings := []node.Finding{c.stream(ctx, archived), c.events(ctx)}
	switch {
	case err != nil:
		findings = append(findings, c.warning("rules", "Stop recording and run `paldies audit verify --campaign "+c.id+"`.", "%v", err))
	case campaign.Status == domain.StatusNone:
		findings = append(findings, c.warning("rules", "Run the same `paldies campaign open "+c.id+"` again.",
			"the ledger has no campaign.opened: `paldies campaign open` was interrupted"))
	default:
		findings = append(findings, c.key(campaign))
	}
	if err := closeLedger(c.ledger); err != nil {
		findings = append(findings, c.warning("close", "Run doctor again.", "%v", err))
	}
	return findings
}

// stream compares the stream's configuration with what keeps every event, and of
// an archived campaign lets none follow.
func (c *campaignDoctor) stream(ctx context.Context, archived bool) node.Finding {
	deviations, unsealed, err := c.app.checkStream(ctx, c.ledger, c.id, archived)
	switch {
	case err != nil:
		return c.warning("stream", "Look whether the server is well, and run doctor again.", "%v", err)
	case len(deviations) == 0 && unsealed:
		return c.warning("stream", "Run "+finishArchiving(c.id)+".", notSealed)
	case len(deviations) > 0:
		texts := make([]string, len(deviations))
		for i, d := range deviations {
			texts[i] = d.String()
		}
		return c.warning("stream", "Set it back with `nats stream edit "+domain.StreamName(c.id)+"`, find out who changed it, and run `paldies audit verify --campaign "+c.id+"`.",
			"as it is set up, %s", strings.Join(texts, "; "))
	}
	f := c.finding("stream")
	f.Detail = "The stream is set up to keep every event."
	if archived {
		f.Detail = "The stream is sealed: it keeps every event, and takes none."
	}
	return f
}

// events looks whether the stream says that it has all it ever had.
func (c *campaignDoctor) events(ctx context.Context) node.Finding {
	const restore = "Stop recording and restore the stream from a copy."
	info, err := c.ledger.Info(ctx)
	if err != nil {
		return c.warning("events", "Look whether the server is well, and run doctor again.", "%v", err)
	}
	last, _, err := c.ledger.Last(ctx, eventstore.AllSubjects, eventstore.Leader)
	if err != nil {
		return c.warning("events", restore, "%v", err)
	}
	c.newest = last.Time
	switch {
	case info.Messages != info.Last:
		return c.warning("events", restore, "%d events were recorded and %d are there, from event %d on", info.Last, info.Messages, info.First)
	case len(info.Lagging) > 0:
		return c.warning("events", "Start the servers that are down; while one more fails, nobody can vote.",
			"copies are offline or behind: %s", strings.Join(info.Lagging, ", "))
	}
	f := c.finding("events")
	f.Detail = fmt.Sprintf("Events: %d, none is missing (%d KiB, copies: %d).", info.Last, info.Bytes>>10, info.Replicas)
	return f
}

// campaign folds the campaign's own events, which are few.
func (c *campaignDoctor) campaign(ctx context.Context) (*domain.Campaign, error) {
	events, err := c.ledger.History(ctx, domain.ControlSubject(c.id), 0, eventstore.Leader)
	if err != nil {
		return nil, err
	}
	var register domain.Register
	for _, rec := range events {
		e, err := c.app.codec.Decode(rec.Data)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", rec.Sequence, err)
		}
		if err := register.Apply(rec.Sequence, e); err != nil {
			return nil, err
		}
	}
	return register.Campaign(), nil
}

// key looks whether voters can get their pseudonyms here.
func (c *campaignDoctor) key(campaign *domain.Campaign) node.Finding {
	path := keyring.Path(c.app.dataDir, c.id)
	f := c.finding("key")
	key, err := keyring.Load(path)
	switch missing := errors.Is(err, keyring.ErrMissing); {
	case missing && campaign.Status != domain.StatusOpen:
		f.Detail = fmt.Sprintf("%s is not there, and nobody needs it to vote: the campaign is %s.", path, campaign.Status)
	case missing && c.app.natsURL != "":
		f.Status = node.Unknown
		f.Detail = fmt.Sprintf("%s is not there; whether the key is on another machine cannot be seen from here.", path)
	case missing:
		return c.warning("key", "Restore it from its backup: without it nobody can vote, everybody can count. If it is kept elsewhere, voting needs --key-file.",
			"the pseudonym key %s is not there", path)
	case err != nil:
		return c.warning("key", "Until that is done nobody can vote, everybody can count.", "%v", err)
	case key.ID() != campaign.KeyID:
		return c.warning("key", "Restore the campaign's own key from its backup: until then nobody can vote, everybody can count.",
			"the pseudonym key %s is another campaign's: its id is %s, the campaign's is %s", path, key.ID(), campaign.KeyID)
	default:
		f.Detail = fmt.Sprintf("The pseudonym key %s is the campaign's, and only its owner can read it.", path)
	}
	return f
}
