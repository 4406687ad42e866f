package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
)

// credentialCommand is about credentials of every role.
func (a *app) credentialCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "credential", Short: "Give channels, auditors and readers their credentials, revoke and list them"}
	add := a.credentialAddCommand("add --role ROLE", "Make a token for a channel, an auditor or a reader of results", cobra.NoArgs)
	add.command.Long += "\n\n" +
		"channel hands in votes. auditor reads the events from the log. chancellery sees all\n" +
		"counts at any time. institution sees the published counts only, as everybody does; it\n" +
		"is there so that the embargo holds for an institution by its name."
	f := add.command.Flags()
	f.StringVar((*string)(&add.made.Role), "role", "", fmt.Sprintf("what it is for, one of %v (needed)", domain.Roles))
	f.StringVar(&add.made.Channel, "channel", "", "by which channel it hands in votes, with --role channel")
	f.StringVar(&add.made.Institution, "institution", "", "whose it is, with --role institution")
	notFromEnvironment(add.command, "role", "channel", "institution")
	required(add.command, "role")
	cmd.AddCommand(add.command, a.credentialRevokeCommand(), a.credentialListCommand("List the credentials, revoked ones too, but no tokens", domain.Roles))
	return cmd
}

// channelCommand is the short form for channels, whose credentials are nearly
// all that there are.
func (a *app) channelCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "channel", Short: "The same as credential, for channels"}
	add := a.credentialAddCommand("add NAME", "Make a token with which votes may be handed in by a channel", cobra.ExactArgs(1))
	add.made.Role = domain.RoleChannel
	add.named = &add.made.Channel
	cmd.AddCommand(add.command, a.credentialRevokeCommand(), a.credentialListCommand("List the credentials of channels, revoked ones too, but no tokens", []domain.Role{domain.RoleChannel}))
	return cmd
}

// withCredentials runs fn with the credentials that are kept on a node.
func (a *app) withCredentials(cmd *cobra.Command, fn func(context.Context, *node.Node, *credential.Store) error) error {
	return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
		store, err := a.credentials(n)
		if err != nil {
			return err
		}
		return fn(ctx, n, store)
	})
}

func (a *app) credentials(n *node.Node) (*credential.Store, error) {
	return credential.NewStore(n.Conn(), replicas(n), a.now)
}

// credentialAdd is a command that makes a credential.
type credentialAdd struct {
	command *cobra.Command
	made    credential.Credential // what the flags say
	named   *string               // what the argument says; nil: there is none
}

func (a *app) credentialAddCommand(use, short string, args cobra.PositionalArgs) *credentialAdd {
	add := new(credentialAdd)
	c := &add.made
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long: short + ".\n\n" +
			"The token is printed on standard output, alone and once: it is kept nowhere, only\n" +
			"its hash is. Into a file that nobody else can read:\n\n" +
			"  (umask 077; paldies credential add --role channel --channel web > web-token)",
		Args: args,
	}
	add.command = cmd
	f := cmd.Flags()
	f.StringVar(&c.Campaign, "campaign", "", "it is good for this campaign only (default: for all)")
	f.StringVar(&c.Note, "note", "", "for people, such as who has it; must not hold secrets")
	f.Float64Var(&c.Rate, "rate", 0, "requests a second to the API that each process lets pass; 0 is no limit")
	f.IntVar(&c.Burst, "burst", 0, "requests at once, with --rate (default one second's worth)")
	expires := timeFlag(cmd, "expires", "from when on it is good for nothing (default: never)")
	notFromEnvironment(cmd, "campaign", "note", "rate", "burst", "expires")
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if add.named != nil {
			*add.named = args[0]
		}
		if c.Expires = *expires; c.Expired(a.now()) {
			return usagef("--expires %s: that is past", domain.FormatTime(c.Expires))
		}
		if err := c.Validate(); err != nil {
			return usageError{err}
		}
		return a.withCredentials(cmd, func(ctx context.Context, n *node.Node, store *credential.Store) error {
			notes, err := a.undeclared(ctx, n, *c)
			if err != nil {
				return err
			}
			token, made, err := store.Add(ctx, *c)
			if err != nil {
				return err
			}
			awaitInForce(ctx)
			return a.printToken(*format, token, made, notes)
		})
	}
	return add
}

// awaitInForce waits until workers have looked for what was changed: a token is good
// as soon as it is printed. Whoever does not want to wait loses nothing.
func awaitInForce(ctx context.Context) {
	timer := time.NewTimer(credential.InForce)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// printToken prints the token alone, and what a person should know elsewhere.
func (a *app) printToken(f format, token string, c credential.Credential, notes []string) error {
	covers := "all campaigns"
	if c.Campaign != "" {
		covers = "campaign " + c.Campaign
	}
	until := ""
	if !c.Expires.IsZero() {
		until = ", until " + domain.FormatTime(c.Expires)
	}
	fmt.Fprintf(a.err, "Credential %s: whoever has this token %s, for %s%s.\n", c.ID, may(c), covers, until)
	fmt.Fprintf(a.err, "It is not shown again. To end it: paldies credential revoke %s\n", c.ID)
	for _, note := range notes {
		fmt.Fprintf(a.err, "Note: %s\n", note)
	}
	if f == asJSON {
		return printJSON(a.out, struct {
			Token string `json:"token"`
			credentialView
		}{token, viewCredential(c, a.now())})
	}
	_, err := fmt.Fprintln(a.out, token)
	return err
}

// may says what the holder of a credential may do.
func may(c credential.Credential) string {
	switch c.Role {
	case domain.RoleChannel:
		return "hands in votes by channel " + c.Channel
	case domain.RoleAuditor:
		return "reads the events of the log"
	case domain.RoleChancellery:
		return "sees all counts, before they are public too"
	}
	return "sees counts once they are public, as " + c.Institution
}

// undeclared says in notes why a channel's credential may be good for nothing
// yet. It is no mistake to make it before the campaign.
func (a *app) undeclared(ctx context.Context, n *node.Node, c credential.Credential) (notes []string, err error) {
	if c.Role != domain.RoleChannel {
		return nil, nil
	}
	ids := []string{c.Campaign}
	if c.Campaign == "" {
		if ids, err = (nodeCampaigns{a, n}).List(ctx); err != nil {
			return nil, err
		}
	}
	for _, id := range ids {
		v, err := a.viewCampaign(ctx, n, id)
		var missing *noCampaignError
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &missing), errors.Is(err, intake.ErrNotOpened): // It declares nothing yet.
		case err != nil: // It must not be in the way of other campaigns.
			notes = append(notes, fmt.Sprintf("whether campaign %s takes votes by channel %s cannot be seen: %v", id, c.Channel, err))
		case slices.ContainsFunc(v.Channels, func(ch domain.Channel) bool { return ch.Name == c.Channel }):
			return nil, nil
		}
	}
	which := "no campaign declares"
	if c.Campaign != "" {
		which = "campaign " + c.Campaign + " does not declare"
	}
	return append(notes, fmt.Sprintf("%s the channel %s yet; until `paldies campaign open` or `paldies campaign amend` does, its votes are refused", which, c.Channel)), nil
}

func (a *app) credentialRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End a credential at once and for ever",
		Long: "End a credential at once and for ever. The id is in `paldies credential list`; in a\n" +
			"token it is what stands between the first and the second underscore.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := credential.ValidateID(args[0]); err != nil {
				return usageError{err} // which does not repeat it: it may be a token
			}
			return a.withCredentials(cmd, func(ctx context.Context, _ *node.Node, store *credential.Store) error {
				c, again, err := store.Revoke(ctx, args[0])
				if err == nil {
					awaitInForce(ctx)
				}
				switch {
				case errors.Is(err, credential.ErrUnknown):
					return fmt.Errorf("%w; `paldies credential list` shows those there are", err)
				case err != nil:
					return err
				case again:
					fmt.Fprintf(a.out, "credential %s of %s was revoked before, at %s\n", c.ID, c.Holder(), domain.FormatTime(c.Revoked))
				default:
					fmt.Fprintf(a.out, "credential %s of %s revoked\n", c.ID, c.Holder())
				}
				return nil
			})
		},
	}
}

// credentialView is a credential as commands print it.
type credentialView struct {
	ID          string      `json:"id"`
	Role        domain.Role `json:"role"`
	Channel     string      `json:"channel,omitzero"`
	Institution string      `json:"institution,omitzero"`
	Campaign    string      `json:"campaign,omitzero"`
	Note        string      `json:"note,omitzero"`
	Rate        float64     `json:"rate"`
	Burst       int         `json:"burst,omitzero"`
	CreatedAt   time.Time   `json:"created_at"`
	ExpiresAt   time.Time   `json:"expires_at,omitzero"`
	RevokedAt   time.Time   `json:"revoked_at,omitzero"`
	Status      string      `json:"status"`
}

// credentialColumns are those of credentialView.row.
var credentialColumns = []string{"id", "role", "channel", "institution", "campaign", "status", "created_at", "expires_at", "revoked_at", "rate", "burst", "note"}

func viewCredential(c credential.Credential, now time.Time) credentialView {
	v := credentialView{ID: c.ID, Role: c.Role, Channel: c.Channel, Institution: c.Institution, Campaign: c.Campaign, Note: c.Note,
		Rate: c.Rate, Burst: c.Burst, CreatedAt: c.Created, ExpiresAt: c.Expires, RevokedAt: c.Revoked, Status: "in_force"}
	switch {
	case !c.Revoked.IsZero():
		v.Status = "revoked"
	case c.Expired(now):
		v.Status = "expired"
	}
	return v
}

// row is the view in a table, where an empty field is no limit or not so yet.
func (v credentialView) row() []string {
	var limit, burst string
	if v.Rate > 0 {
		limit = strconv.FormatFloat(v.Rate, 'f', -1, 64)
	}
	if v.Burst > 0 {
		burst = strconv.Itoa(v.Burst)
	}
	return []string{v.ID, string(v.Role), v.Channel, v.Institution, v.Campaign, v.Status, domain.FormatTime(v.CreatedAt),
		timeValue{&v.ExpiresAt}.String(), timeValue{&v.RevokedAt}.String(), limit, burst, v.Note}
}

func (a *app) credentialListCommand(short string, roles []domain.Role) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: short, Args: cobra.NoArgs}
	format := formatFlag(cmd, asTable, asJSON, asCSV)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withCredentials(cmd, func(ctx context.Context, _ *node.Node, store *credential.Store) error {
			all, corrupt := store.List(ctx)
			if corrupt != nil && !errors.Is(corrupt, credential.ErrCorrupt) {
				return corrupt
			}
			views := []credentialView{}
			l := listing{columns: credentialColumns}
			for _, c := range all {
				if !slices.Contains(roles, c.Role) {
					continue
				}
				v := viewCredential(c, a.now())
				views = append(views, v)
				l.rows = append(l.rows, v.row())
			}
			l.value = views
			return errors.Join(a.print(*format, l), corrupt)
		})
	}
	return cmd
}
