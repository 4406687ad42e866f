package node

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
)

// DefaultDataDir is the data directory of a Config that names none.
const DefaultDataDir = "paldies-data"

// Config says where the ledger of this process lives.
type Config struct {
	// DataDir is the data directory; empty means DefaultDataDir in the working
	// directory. It is made when the embedded server starts on it.
	DataDir string
	// NATSURL names servers to connect to, several separated by commas, with
	// credentials as userinfo if they ask for any. Empty means the node that
	// runs on DataDir or, when there is none, the embedded server.
	NATSURL string
	// NATSCA is a file of certificates, in PEM, of the authorities that vouch for
	// the servers of NATSURL; empty means those that the system trusts.
	NATSCA string
	// Serve keeps the embedded server open to this machine's other processes
	// of the same user, who find it by DataDir.
	Serve bool
	// HTTP is the address at which the command serves HTTP, for those who find
	// the node by DataDir; information only.
	HTTP string
	// MustExist refuses a data directory on which no node has been yet, instead
	// of making one: for commands that have nothing to do without data.
	MustExist bool
	// Join uses the node that runs on DataDir and never starts a server: for
	// those who would have nothing to do alone.
	Join bool
	// Command is what this process is doing, such as "vote import". It is told
	// to whoever finds DataDir in use.
	Command string
	// StageOnDisk keeps uncommitted batches on disk instead of in memory; see
	// staging.go.
	StageOnDisk bool
	// MaxStoreBytes limits what the embedded server stores; 0 means three
	// quarters of the space that is free when it starts.
	MaxStoreBytes int64
	// Logger gets the embedded server's messages; nil discards them.
	Logger *slog.Logger
}

// Validate reports settings that cannot work, each with its remedy.
func (c Config) Validate() error {
	var errs []error
	if c.Serve && c.NATSURL != "" {
		errs = append(errs, errors.New("a node that serves its own data directory cannot use another NATS server: leave out --nats-url and PALDIES_NATS_URL"))
	}
	if c.Serve && c.Join {
		errs = append(errs, errors.New("a node cannot both serve and join the node that serves"))
	}
	if c.MaxStoreBytes < 0 {
		errs = append(errs, fmt.Errorf("the largest store is %d bytes: it must not be negative", c.MaxStoreBytes))
	}
	if c.NATSURL != "" {
		errs = append(errs, validateServers(c.NATSURL), validateCA(c.NATSCA))
	}
	return errors.Join(errs...)
}

// validateServers checks a comma-separated list of server addresses. An
// address that cannot be parsed is not repeated, for it may hold a password.
func validateServers(list string) error {
	for server := range strings.SplitSeq(list, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server // as the client does
		}
		u, err := url.Parse(server)
		if err != nil || u.Host == "" {
			return errors.New("the NATS address cannot be read: write it as nats://host:4222 or nats://user:password@host:4222, special characters of a password percent-encoded, several addresses separated by commas")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return fmt.Errorf("the NATS address %s has the scheme %q: use nats, tls, ws or wss", u.Redacted(), u.Scheme)
		}
	}
	return nil
}

// validateCA checks the file before it is needed: the client would say only that
// no server can be reached.
func validateCA(file string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("the certificates of the NATS servers' authority cannot be read: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds no certificate in PEM: name the file of the NATS servers' authority with --nats-ca or PALDIES_NATS_CA", file)
	}
	return nil
}

// serverOptions are what it takes to be let in by the servers of NATSURL.
//
// Answers come to inboxes of the user's own, _INBOX_<user>.>, so that servers can
// keep users of one account from hearing each other's answers.
func (c Config) serverOptions() []nats.Option {
	var options []nats.Option
	if c.NATSCA != "" {
		options = append(options, nats.RootCAs(c.NATSCA))
	}
	if user := firstUser(c.NATSURL); user != "" {
		options = append(options, nats.CustomInboxPrefix("_INBOX_"+user))
	}
	return options
}

// firstUser is the user whom a list of servers names, or nothing when it names
// none, a token, or one whose name is no part of a subject.
func firstUser(servers string) string {
	first, _, _ := strings.Cut(servers, ",")
	u, err := parseServer(first)
	if err != nil || u.User == nil {
		return ""
	}
	name := u.User.Username()
	if _, named := u.User.Password(); !named || strings.ContainsFunc(name, notInToken) {
		return ""
	}
	return name
}

// parseServer reads an address as the client library does, for which the scheme may
// be left out.
func parseServer(address string) (*url.URL, error) {
	address = strings.TrimSpace(address)
	if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	return url.Parse(address)
}

// notInToken reports what no token of a subject should have.
func notInToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(".*>", r)
}

// RedactServers is a list of server addresses without passwords and tokens.
func RedactServers(list string) string {
	servers := strings.Split(list, ",")
	for i, server := range servers {
		u, err := parseServer(server)
		if err != nil {
			servers[i] = "(unreadable)"
			continue
		}
		if u.User != nil {
			u.User = url.User("xxxxx") // A token stands where a user's name does.
		}
		servers[i] = u.String()
	}
	return strings.Join(servers, ",")
}

// withDefaults completes the configuration. The data directory becomes
// absolute, so that a later change of the working directory moves nothing.
func (c Config) withDefaults() (Config, error) {
	if c.DataDir == "" {
		c.DataDir = DefaultDataDir
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return c, fmt.Errorf("%w: %w: start the command in a directory that exists", ErrDataDir, err)
	}
	c.DataDir = dir
	if c.Command == "" {
		c.Command = "paldies"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
