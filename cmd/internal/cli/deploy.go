package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/deploy"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/projections/postgres"
)

// probeTimeout is how long a role may take to say that it lives, in time.
const probeTimeout = 3 * time.Second

func (a *app) deployCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "deploy", Short: "Prepare the servers of a deployment for its roles (docker-compose.yml)"}
	cmd.AddCommand(a.deploySecretsCommand(), a.deployLoginsCommand(), a.deployStreamsCommand(), a.deployProbeCommand())
	return cmd
}

func (a *app) deploySecretsCommand() *cobra.Command {
	c := deploy.Config{}
	cmd := &cobra.Command{
		Use:   "secrets --dir DIR --host NAME,…",
		Short: "Make the certificates and passwords of a deployment, unless they are there",
		Long: "Make the certificates of the NATS servers and a password for each role, in a folder\n" +
			"for each server and role, so that none needs to see what is another's. What is there\n" +
			"already is left as it is.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&c.Dir, "dir", "", "folder of the secrets (needed)")
	cmd.Flags().StringSliceVar(&c.Hosts, "host", nil, "names of the NATS servers, as clients and certificates have them (needed)")
	notFromEnvironment(cmd, "dir", "host")
	required(cmd, "dir", "host")
	cmd.RunE = func(*cobra.Command, []string) error {
		c.Now = a.now()
		if err := c.Validate(); err != nil {
			return usageError{err}
		}
		err := deploy.MakeSecrets(c)
		if errors.Is(err, deploy.ErrComplete) {
			_, err = fmt.Fprintf(a.out, "the secrets in %s are there already\n", c.Dir)
			return err
		}
		if err == nil {
			_, err = fmt.Fprintf(a.out, "made secrets in %s for %d servers and %d users\n", c.Dir, len(c.Hosts), len(deploy.Roles))
		}
		return err
	}
	return cmd
}

func (a *app) deployLoginsCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "logins --dir DIR --database-url URL",
		Short: "Make the users of Postgres, or give them the passwords of the secrets",
		Long: "Make the users that the roles of a deployment log in as, with the passwords that deploy\n" +
			"secrets made, and take from the server's public the right to connect. Whom somebody\n" +
			"gave that right by name keeps it. It needs a superuser, and a server that is there for\n" +
			"this deployment only. Run migrate afterwards, which gives them their rights. It can be\n" +
			"run again at any time.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the folder logins of the secrets (needed)")
	notFromEnvironment(cmd, "dir")
	url := databaseFlag(cmd, "the database, as a superuser (needed)")
	required(cmd, "dir", databaseName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := databaseConfig(*url)
		if err != nil {
			return err
		}
		logins, err := deploy.Logins(dir)
		if err != nil {
			return usageError{err}
		}
		if err := postgres.MakeLogins(cmd.Context(), config, logins); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "%d logins are at %s\n", len(logins), databaseAddress(*url))
		return err
	}
	return cmd
}

func (a *app) deployStreamsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "streams",
		Short: "Make the queue and the buckets that roles use but may not make, unless they are there",
		Long: "Make the queue, the streams of its outcomes for the campaigns that there are, the bucket\n" +
			"of credentials and the signer's record on the NATS servers, unless they are there. It\n" +
			"opens no campaign.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
				if err := a.makeStreams(ctx, n); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "the queue and the buckets are at %s\n", n.URL())
				return err
			})
		},
	}
}

func (a *app) makeStreams(ctx context.Context, n *node.Node) error {
	store, err := credential.NewStore(n.Conn(), replicas(n), a.now)
	if err != nil {
		return err
	}
	if err := errors.Join(createQueue(ctx, n), store.MakeBucket(ctx), transparency.MakeFences(ctx, n.Conn(), replicas(n))); err != nil {
		return err
	}
	campaigns, err := nodeCampaigns{a, n}.List(ctx)
	for _, id := range campaigns {
		err = errors.Join(err, queue.CreateOutcomes(ctx, n.Conn(), id, replicas(n)))
	}
	return err
}

func (a *app) deployProbeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "probe URL",
		Short: "Ask a role whether it lives (/livez) or is ready (/readyz), for health checks",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return probe(cmd.Context(), args[0])
		},
	}
}

// errNotWell says that a role does not answer, or not by 200.
var errNotWell = errors.New("the role is not well")

func probe(ctx context.Context, url string) error {
	ctx, stop := context.WithTimeout(ctx, probeTimeout)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usageError{err}
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotWell, err)
	}
	if err := answer.Body.Close(); err != nil {
		return fmt.Errorf("%w: %w", errNotWell, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s answers %s", errNotWell, url, answer.Status)
	}
	return nil
}
