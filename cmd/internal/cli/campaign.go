package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

func (a *app) campaignCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "campaign", Short: "Open, amend, close, archive and show campaigns"}
	cmd.AddCommand(a.campaignOpenCommand(), a.campaignAmendCommand(), a.campaignCloseCommand(), a.campaignArchiveCommand(),
		a.campaignListCommand(), a.campaignShowCommand())
	return cmd
}

// campaignRules are the flags that open and amend share.
type campaignRules struct {
	title         string
	opens, closes *time.Time
	votesPerVoter int
	channels      []string
	identity      map[string]string
}

func (r *campaignRules) flags(cmd *cobra.Command, channels []string, channelsUsage string) {
	f := cmd.Flags()
	f.StringVar(&r.title, "title", "", "title for people")
	r.opens = timeFlag(cmd, "opens", "the first moment at which a vote may be cast")
	r.closes = timeFlag(cmd, "closes", "the first moment at which none may be cast any more")
	f.IntVar(&r.votesPerVoter, "votes-per-voter", 0, "how many votes a voter may have; 0 is no limit")
	f.StringSliceVar(&r.channels, "channels", channels, channelsUsage)
	f.StringToStringVar(&r.identity, "identity", nil, "how a channel knows who votes: CHANNEL=verified, declared or none; where it is not said, verified")
}

// list is the channels with their identities.
func (r *campaignRules) list() ([]domain.Channel, error) {
	var channels []domain.Channel
	unused := make(map[string]bool)
	for name := range r.identity {
		unused[name] = true
	}
	for _, name := range r.channels {
		ch := domain.Channel{Name: name, Identity: domain.Verified}
		if kind, ok := r.identity[name]; ok {
			identity, err := domain.ParseIdentity(kind)
			if err != nil {
				return nil, usagef("--identity %s: %v", name, err)
			}
			ch.Identity = identity
		}
		delete(unused, name)
		channels = append(channels, ch)
	}
	for name := range unused {
		return nil, usagef("--identity %s: there is no such channel in --channels %s", name, strings.Join(r.channels, ","))
	}
	return channels, nil
}

func (a *app) campaignOpenCommand() *cobra.Command {
	var rules campaignRules
	var zone, keyFile string
	cmd := &cobra.Command{
		Use:   "open ID --opens T --closes T",
		Short: "Open a campaign: its ledger, its rules and its pseudonym key",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := domain.ValidateCampaignID(args[0]); err != nil {
				return usagef("%v", err)
			}
			channels, err := rules.list()
			if err != nil {
				return err
			}
			if err := checkZone(zone, *rules.opens, *rules.closes); err != nil {
				return usagef("--timezone %s: %v", zone, err)
			}
			d := domain.CampaignOpened{
				Title: rules.title, OpensAt: *rules.opens, ClosesAt: *rules.closes, Timezone: zone,
				Channels: channels, VotesPerVoter: rules.votesPerVoter,
			}
			if err := intake.CheckOpening(args[0], d, a.now()); err != nil {
				return usageError{err}
			}
			if keyFile == "" {
				keyFile = keyring.Path(a.dataDir, args[0])
			}
			return a.openCampaign(cmd, args[0], keyFile, d)
		},
	}
	rules.flags(cmd, []string{"web", "mobile", "in_person"}, "channels by which votes come in")
	cmd.Flags().StringVar(&zone, "timezone", "Europe/Riga", "IANA name; days in results are days there")
	cmd.Flags().StringVar(&keyFile, "key-file", "", "pseudonym key; made when it is not there (default DATA/keys/ID.key)")
	required(cmd, "opens", "closes")
	return cmd
}

// checkZone wants whole hours: results are counted by the hour, and a zone such
// as Asia/Kolkata would cut them in two.
func checkZone(zone string, moments ...time.Time) error {
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return errors.New("not the name of a time zone; use an IANA name such as Europe/Riga")
	}
	for _, t := range moments {
		if _, offset := t.In(location).Zone(); offset%3600 != 0 {
			return errors.New("its offset is not whole hours, by which results are counted")
		}
	}
	return nil
}

// openCampaign opens a campaign, or says that it was opened before by the same
// command, whose answer may have been lost.
func (a *app) openCampaign(cmd *cobra.Command, id, keyFile string, d domain.CampaignOpened) error {
	return a.onNode(cmd, a.node, func(ctx context.Context, n *node.Node) error {
		receipt, err := a.newCampaign(ctx, n, id, keyFile, d)
		if errors.Is(err, intake.ErrCampaignExists) {
			receipt, err = a.openedBefore(ctx, n, id, keyFile, d)
		}
		if err != nil {
			return err
		}
		done := "opened"
		if receipt.Known {
			done = "was opened before"
		}
		fmt.Fprintf(a.out, "campaign %s %s (event %d)\n", id, done, receipt.Sequence)
		fmt.Fprintf(a.err, "The pseudonym key is %s. Back it up now, apart from the ledger: without it nobody can vote, everybody can count.\n", keyFile)
		return nil
	})
}

// newCampaign goes in an order that can be interrupted anywhere and run again:
// key, stream, first event.
func (a *app) newCampaign(ctx context.Context, n *node.Node, id, keyFile string, d domain.CampaignOpened) (_ intake.Receipt, err error) {
	if _, sequence, err := a.opening(ctx, n, id); err != nil {
		return intake.Receipt{}, err
	} else if sequence != 0 {
		return intake.Receipt{}, intake.ErrCampaignExists
	}
	key, created, err := keyring.Create(keyFile)
	if err == nil && !created {
		err = a.checkKeyUnused(ctx, n, id, key, keyFile)
	}
	if err != nil {
		return intake.Receipt{}, err
	}
	d.KeyID = key.ID()
	existed := n.CreateLedger(ctx, ledgerConfig(n, id))
	if existed != nil && !errors.Is(existed, eventstore.ErrExists) {
		return intake.Receipt{}, existed
	}
	l, err := a.openLedger(ctx, n, id)
	if err != nil {
		return intake.Receipt{}, err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	if existed != nil {
		if err := checkUntouched(ctx, l, id); err != nil {
			return intake.Receipt{}, err
		}
	}
	receipt, err := intake.OpenCampaign(ctx, l, id, d, a.now())
	if err != nil {
		return receipt, err
	}
	return receipt, a.makeOutcomes(ctx, n, id)
}

// makeOutcomes makes the stream of a campaign's outcomes where there is a queue:
// workers of a deployment may not make streams.
func (a *app) makeOutcomes(ctx context.Context, n *node.Node, id string) error {
	switch err := queue.CheckStreams(ctx, n.Conn()); {
	case errors.Is(err, queue.ErrNoQueue):
		return nil
	case err != nil:
		return err
	}
	return queue.CreateOutcomes(ctx, n.Conn(), id, replicas(n))
}

// checkUntouched makes sure that a stream which is there before its first event
// is what an interrupted opening leaves, and nothing that somebody prepared.
func checkUntouched(ctx context.Context, l *eventstore.Ledger, id string) error {
	deviations, err := l.CheckConfig(ctx, false)
	if err != nil {
		return err
	}
	info, err := l.Info(ctx)
	if err != nil {
		return err
	}
	problems := make([]string, 0, len(deviations)+1)
	for _, d := range deviations {
		problems = append(problems, d.String())
	}
	if info.Last != 0 {
		problems = append(problems, fmt.Sprintf("it has had %d messages", info.Last))
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("campaign %s: its stream %s exists and is not a new ledger's: %s; find out who made it, remove it, and open the campaign again",
		id, domain.StreamName(id), strings.Join(problems, "; "))
}

// checkKeyUnused refuses a key that another campaign on this server has: its
// pseudonyms would tell who voted in both.
func (a *app) checkKeyUnused(ctx context.Context, n *node.Node, id string, key domain.PseudonymKey, keyFile string) error {
	campaigns, err := nodeCampaigns{a, n}.List(ctx)
	if err != nil {
		return err
	}
	for _, other := range campaigns {
		e, _, err := a.opening(ctx, n, other)
		if err != nil {
			return fmt.Errorf("whether campaign %s has the pseudonym key %s too cannot be seen: %w", other, keyFile, err)
		}
		if d, ok := e.Data.(domain.CampaignOpened); ok && other != id && d.KeyID == key.ID() {
			return &intake.NotAllowedError{Err: fmt.Errorf("the pseudonym key %s is campaign %s's: with one key for both, everybody could see who voted in both; leave out --key-file, or name a file that is not there yet",
				keyFile, other)}
		}
	}
	return nil
}

// openedBefore is the receipt of an opening that is recorded with the same rules
// and the same key.
func (a *app) openedBefore(ctx context.Context, n *node.Node, id, keyFile string, d domain.CampaignOpened) (intake.Receipt, error) {
	e, sequence, err := a.opening(ctx, n, id)
	if err != nil {
		return intake.Receipt{}, err
	}
	if key, err := keyring.Load(keyFile); err == nil { // else it cannot be the same
		d.KeyID = key.ID()
	}
	asked := e
	asked.Data = d
	recorded, err := domain.Encode(e)
	if err != nil {
		return intake.Receipt{}, err
	}
	if same, err := domain.Encode(asked); err != nil || !bytes.Equal(same, recorded) {
		return intake.Receipt{}, fmt.Errorf("campaign %s: %w, with other rules or another key; `paldies campaign show %s` shows it, `paldies campaign amend %s` changes its rules",
			id, intake.ErrCampaignExists, id, id)
	}
	receipt := intake.Receipt{Campaign: id, Sequence: sequence, EventID: e.ID, RecordedAt: e.Time, Known: true}
	return receipt, a.makeOutcomes(ctx, n, id)
}

// opening is the first event of a campaign and its sequence, or 0 when it has
// none yet.
func (a *app) opening(ctx context.Context, n *node.Node, id string) (_ domain.Event, sequence uint64, err error) {
	l, err := n.OpenLedger(ctx, ledgerConfig(n, id))
	if errors.Is(err, eventstore.ErrNotFound) {
		return domain.Event{}, 0, nil
	}
	if err != nil {
		return domain.Event{}, 0, err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	events, err := l.History(ctx, domain.ControlSubject(id), 0, eventstore.Leader)
	if err != nil || len(events) == 0 {
		return domain.Event{}, 0, err
	}
	e, err := a.codec.Decode(events[0].Data)
	if err != nil {
		return domain.Event{}, 0, fmt.Errorf("campaign %s: event %d: %w", id, events[0].Sequence, err)
	}
	return e, events[0].Sequence, nil
}

func (a *app) campaignAmendCommand() *cobra.Command {
	var rules campaignRules
	var reason string
	cmd := &cobra.Command{
		Use:   "amend ID",
		Short: "Loosen a campaign's rules: a later close, an earlier opening, more votes, more channels",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			channels, err := rules.list()
			if err != nil {
				return err
			}
			d := domain.CampaignAmended{Title: rules.title, OpensAt: *rules.opens, ClosesAt: *rules.closes,
				AddChannels: channels, Reason: reason}
			if cmd.Flags().Changed("votes-per-voter") {
				d.VotesPerVoter = &rules.votesPerVoter
			}
			if d.Title == "" && d.OpensAt.IsZero() && d.ClosesAt.IsZero() && d.VotesPerVoter == nil && len(channels) == 0 {
				return usagef("nothing to amend; see `%s --help`", cmd.CommandPath())
			}
			return a.withIntake(cmd, intakeOptions{campaign: args[0]}, func(ctx context.Context, in *intake.Intake) error {
				receipt, err := in.Amend(ctx, d)
				if err == nil {
					fmt.Fprintf(a.out, "campaign %s amended (event %d)\n", args[0], receipt.Sequence)
				}
				return err
			})
		},
	}
	rules.flags(cmd, nil, "channels to add")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

func (a *app) campaignCloseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "close ID",
		Short: "End recording: from here on no vote counts",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withIntake(cmd, intakeOptions{campaign: args[0]}, func(ctx context.Context, in *intake.Intake) error {
				receipt, err := in.Close(ctx, reason)
				switch {
				case err != nil:
					return err
				case receipt.Known:
					fmt.Fprintf(a.out, "campaign %s was closed before (event %d)\n", args[0], receipt.Sequence)
				default:
					fmt.Fprintf(a.out, "campaign %s closed (event %d)\n", args[0], receipt.Sequence)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

// campaignView is a campaign as commands print it.
type campaignView struct {
	ID            string           `json:"id"`
	Title         string           `json:"title"`
	Status        domain.Status    `json:"status"`
	OpensAt       string           `json:"opens_at"`
	ClosesAt      string           `json:"closes_at"`
	Timezone      string           `json:"timezone"`
	Channels      []domain.Channel `json:"channels"`
	VotesPerVoter int              `json:"votes_per_voter"`
	KeyID         string           `json:"key_id"`
	ClosedAt      uint64           `json:"closed_at_sequence,omitzero"`
	Certified     uint64           `json:"certified_at_sequence,omitzero"` // the newest certification
	Published     uint64           `json:"published_certification,omitzero"`
	Specialists   int              `json:"specialists"`
	Events        uint64           `json:"events"`
}

func (a *app) viewCampaign(ctx context.Context, n *node.Node, id string) (_ campaignView, err error) {
	l, err := a.openLedger(ctx, n, id)
	if err != nil {
		return campaignView{}, err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	in, err := intake.New(ctx, intake.Config{Campaign: id, Ledger: l, Codec: a.codec, Now: a.now})
	if err != nil {
		return campaignView{}, err
	}
	info, err := l.Info(ctx)
	if err != nil {
		return campaignView{}, err
	}
	c := in.Register().Campaign()
	certified, _ := c.Certification()
	published, _ := c.Publication()
	return campaignView{
		ID: c.ID, Title: c.Title, Status: c.Status, OpensAt: domain.FormatTime(c.OpensAt), ClosesAt: domain.FormatTime(c.ClosesAt),
		Timezone: c.Timezone, Channels: c.Channels, VotesPerVoter: c.VotesPerVoter, KeyID: c.KeyID, ClosedAt: c.ClosedAt,
		Certified: certified.Event, Published: published.Certified,
		Specialists: len(in.Register().Specialists()), Events: info.Last,
	}, nil
}

func (a *app) campaignListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the campaigns", Args: cobra.NoArgs}
	format := formatFlag(cmd, asTable, asJSON, asCSV)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
			streams, err := eventstore.List(ctx, n.Conn(), domain.StreamPrefix)
			if err != nil {
				return err
			}
			views := []campaignView{}
			l := listing{columns: []string{"id", "status", "opens_at", "closes_at", "specialists", "events", "title"}}
			for _, stream := range streams {
				id, _ := domain.CampaignOfStream(stream)
				v, err := a.viewCampaign(ctx, n, id)
				if errors.Is(err, intake.ErrNotOpened) {
					fmt.Fprintf(a.err, "%v\n", err) // it must not hide the others
					continue
				}
				if err != nil {
					return err
				}
				views = append(views, v)
				l.rows = append(l.rows, []string{v.ID, string(v.Status), v.OpensAt, v.ClosesAt,
					strconv.Itoa(v.Specialists), strconv.FormatUint(v.Events, 10), v.Title})
			}
			l.value = views
			return a.print(*format, l)
		})
	}
	return cmd
}

func (a *app) campaignShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "Show a campaign and its rules", Args: cobra.ExactArgs(1)}
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
			v, err := a.viewCampaign(ctx, n, args[0])
			if err != nil {
				return err
			}
			channels := make([]string, len(v.Channels))
			for i, ch := range v.Channels {
				channels[i] = fmt.Sprintf("%s (%s)", ch.Name, ch.Identity)
			}
			limit := "no limit"
			if v.VotesPerVoter > 0 {
				limit = strconv.Itoa(v.VotesPerVoter)
			}
			rows := [][]string{
				{"title", v.Title}, {"status", string(v.Status)}, {"opens_at", v.OpensAt}, {"closes_at", v.ClosesAt},
				{"timezone", v.Timezone}, {"channels", strings.Join(channels, ", ")}, {"votes_per_voter", limit},
				{"specialists", strconv.Itoa(v.Specialists)}, {"events", strconv.FormatUint(v.Events, 10)}, {"key_id", v.KeyID},
			}
			for _, step := range []struct {
				name  string
				event uint64
			}{{"closed", v.ClosedAt}, {"certified", v.Certified}, {"published", v.Published}} {
				if step.event != 0 {
					rows = append(rows, []string{step.name, fmt.Sprintf("event %d", step.event)})
				}
			}
			return a.print(*format, listing{value: v, whole: true, columns: []string{"campaign", v.ID}, rows: rows})
		})
	}
	return cmd
}
