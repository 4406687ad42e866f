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

func (a *app) channelCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "channel", Short: "Give channels their credentials, revoke and list them"}
	cmd.AddCommand(a.channelAddCommand(), a.channelRevokeCommand(), a.channelListCommand())
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

func (a *app) channelAddCommand() *cobra.Command {
	var c credential.Credential
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a token with which votes may be handed in by a channel",
		Long: "Make a token with which votes may be handed in by a channel.\n\n" +
			"The token is printed on standard output, alone and once: it is kept nowhere, only\n" +
			"its hash is. Into a file that nobody else can read:\n\n" +
			"  (umask 077; paldies channel add web > web-token)",
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&c.Campaign, "campaign", "", "it is good for this campaign only (default: for all)")
	f.StringVar(&c.Note, "note", "", "for people, such as who has it; must not hold secrets")
	f.Float64Var(&c.Rate, "rate", 0, "requests a second that each intake worker lets pass; 0 is no limit")
	f.IntVar(&c.Burst, "burst", 0, "requests at once, with --rate (default one second's worth)")
	notFromEnvironment(cmd, "campaign", "note", "rate", "burst")
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.Channel = args[0]
		if err := c.Validate(); err != nil {
			return usageError{err}
		}
		return a.withCredentials(cmd, func(ctx context.Context, n *node.Node, store *credential.Store) error {
			notes, err := a.undeclared(ctx, n, c)
			if err != nil {
				return err
			}
			token, made, err := store.Add(ctx, c)
			if err != nil {
				return err
			}
			return a.printToken(*format, token, made, notes)
		})
	}
	return cmd
}

// printToken prints the token alone, and what a person should know elsewhere.
func (a *app) printToken(f format, token string, c credential.Credential, notes []string) error {
	covers := "all campaigns"
	if c.Campaign != "" {
		covers = "campaign " + c.Campaign
	}
	fmt.Fprintf(a.err, "Credential %s: whoever has this token hands in votes by channel %s, for %s.\n", c.ID, c.Channel, covers)
	fmt.Fprintf(a.err, "It is not shown again. To end it: paldies channel revoke %s\n", c.ID)
	for _, note := range notes {
		fmt.Fprintf(a.err, "Note: %s\n", note)
	}
	if f == asJSON {
		return printJSON(a.out, struct {
			Token string `json:"token"`
			credentialView
		}{token, viewCredential(c)})
	}
	_, err := fmt.Fprintln(a.out, token)
	return err
}

// undeclared says in notes why a credential may be good for nothing yet. It is
// no mistake to make it before the campaign.
func (a *app) undeclared(ctx context.Context, n *node.Node, c credential.Credential) (notes []string, err error) {
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

func (a *app) channelRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End a credential at once and for ever",
		Long: "End a credential at once and for ever. The id is in `paldies channel list`; in a\n" +
			"token it is what stands between the first and the second underscore.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := credential.ValidateID(args[0]); err != nil {
				return usageError{err} // which does not repeat it: it may be a token
			}
			return a.withCredentials(cmd, func(ctx context.Context, _ *node.Node, store *credential.Store) error {
				c, again, err := store.Revoke(ctx, args[0])
				switch {
				case errors.Is(err, credential.ErrUnknown):
					return fmt.Errorf("%w; `paldies channel list` shows those there are", err)
				case err != nil:
					return err
				case again:
					fmt.Fprintf(a.out, "credential %s of channel %s was revoked before, at %s\n", c.ID, c.Channel, domain.FormatTime(c.Revoked))
				default:
					fmt.Fprintf(a.out, "credential %s of channel %s revoked\n", c.ID, c.Channel)
				}
				return nil
			})
		},
	}
}

// credentialView is a credential as commands print it.
type credentialView struct {
	ID        string    `json:"id"`
	Channel   string    `json:"channel"`
	Campaign  string    `json:"campaign,omitzero"`
	Note      string    `json:"note,omitzero"`
	Rate      float64   `json:"rate"`
	Burst     int       `json:"burst,omitzero"`
	CreatedAt time.Time `json:"created_at"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	Status    string    `json:"status"`
}

func viewCredential(c credential.Credential) credentialView {
	v := credentialView{ID: c.ID, Channel: c.Channel, Campaign: c.Campaign, Note: c.Note, Rate: c.Rate, Burst: c.Burst,
		CreatedAt: c.Created, RevokedAt: c.Revoked, Status: "in_force"}
	if !c.Revoked.IsZero() {
		v.Status = "revoked"
	}
	return v
}

// row is the view in a table, where an empty field is no limit or not so yet.
func (v credentialView) row() []string {
	var limit, burst, revoked string
	if v.Rate > 0 {
		limit = strconv.FormatFloat(v.Rate, 'f', -1, 64)
	}
	if v.Burst > 0 {
		burst = strconv.Itoa(v.Burst)
	}
	if !v.RevokedAt.IsZero() {
		revoked = domain.FormatTime(v.RevokedAt)
	}
	return []string{v.ID, v.Channel, v.Campaign, v.Status, domain.FormatTime(v.CreatedAt), revoked, limit, burst, v.Note}
}

func (a *app) channelListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the credentials, revoked ones too, but no tokens", Args: cobra.NoArgs}
	format := formatFlag(cmd, asTable, asJSON, asCSV)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withCredentials(cmd, func(ctx context.Context, _ *node.Node, store *credential.Store) error {
			all, corrupt := store.List(ctx)
			if corrupt != nil && !errors.Is(corrupt, credential.ErrCorrupt) {
				return corrupt
			}
			views := []credentialView{}
			l := listing{columns: []string{"id", "channel", "campaign", "status", "created_at", "revoked_at", "rate", "burst", "note"}}
			for _, c := range all {
				v := viewCredential(c)
				views = append(views, v)
				l.rows = append(l.rows, v.row())
			}
			l.value = views
			return errors.Join(a.print(*format, l), corrupt)
		})
	}
	return cmd
}
