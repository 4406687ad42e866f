// Package deploy prepares the servers of a deployment for its roles. It makes the
// secrets: an authority and certificates for the NATS servers, a password for each
// user, and the addresses that hold them; and a login of Postgres for each role
// that works there. What the users may do is said by deploy/nats/accounts.conf and
// by package postgres; the tests here try it.
package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sakipaldies.lv/ledger/projections/postgres"
)

// Roles are the users of the NATS servers. Each has a folder of its own with the
// servers' addresses and the certificate of their authority.
var Roles = []string{"intake", "projector", "signer", "dashboard", "auditor", "closer", "admin", "restorer", "web", "mobile", "in_person"}

// databaseRoles are the logins of Postgres, each with a folder of its own, and of
// which role each is a member. That which migrates owns the tables.
var databaseRoles = map[string]string{
	"migrate":   "",
	"projector": postgres.ProjectorRole,
	"dashboard": postgres.ReaderRole,
	"auditor":   postgres.ReaderRole,
	"admin":     postgres.ReaderRole,
}

// The files of a role's folder.
const (
	URLFile      = "nats-url"
	CAFile       = "ca.crt"
	DatabaseFile = "database-url"
	// ReportingFile is Grafana's password for Postgres.
	ReportingFile = "reporting-password"
)

const (
	// certificateValid is how long certificates are good. Nobody renews them by
	// himself: the runbook says how they are replaced.
	certificateValid = 10 * 365 * 24 * time.Hour
	// natsPort is where the servers listen for clients.
	natsPort = "4222"
	// postgresHost is the name of the database's server, and superuser the user that
	// it begins with.
	postgresHost = "postgres:5432"
	superuser    = "postgres"
	// loginsDir holds what the job has that makes the logins.
	loginsDir = "logins"
)

// ErrComplete says that the secrets are there. They are never changed: servers
// and roles that know different ones would not find each other.
var ErrComplete = errors.New("the secrets are there already")

// ErrOlder says that the secrets are there, and that those of Postgres' logins are
// not: they are an older version's, whose tables belong to its superuser.
var ErrOlder = errors.New("the secrets are an older version's, without logins of Postgres: " +
	"replace them, and empty the volume of Postgres too (docs/runbook.md, Upgrade)")

// Config says for what secrets are made.
type Config struct {
	Dir   string   // where they are put, a folder for each server and role
	Hosts []string // names or addresses of the NATS servers
	Now   time.Time
}

// Validate reports the first thing that is wrong with the configuration.
func (c Config) Validate() error {
	if c.Dir == "" {
		return errors.New("name the folder of the secrets")
	}
	if len(c.Hosts) == 0 {
		return errors.New("name the hosts of the NATS servers")
	}
	for _, host := range c.Hosts {
		if host == "" || strings.ContainsAny(host, "/:@ ,*") && net.ParseIP(host) == nil {
			return fmt.Errorf("host %q: write a name or an address, without a port", host)
		}
	}
	return nil
}

// MakeSecrets writes the secrets. Only the files' owner can read them. The key
// of the authority comes last, so that a run which was interrupted is begun
// again, and one that was not is ErrComplete.
func MakeSecrets(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	complete := filepath.Join(c.Dir, "authority", "ca.key")
	if _, err := os.Stat(complete); err == nil {
		if _, err := os.Stat(filepath.Join(c.Dir, loginsDir)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s", ErrOlder, c.Dir)
		}
		return fmt.Errorf("%w: %s", ErrComplete, c.Dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ca, err := newAuthority(c.Now)
	if err != nil {
		return err
	}
	w := &writer{dir: c.Dir}
	w.servers(ca, c, w.roles(ca, c))
	w.databases()
	w.auditors()
	w.file("authority/ca.key", ca.key)
	return w.err
}

// writer writes files until one fails.
type writer struct {
	dir string
	err error
}

func (w *writer) file(name string, data []byte) {
	if w.err != nil {
		return
	}
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if w.err = os.MkdirAll(filepath.Dir(path), 0o700); w.err == nil {
		w.err = os.WriteFile(path, data, 0o600)
	}
}

// servers writes the folder of each NATS server: all have the same files, so that
// they have the same configuration.
func (w *writer) servers(ca *authority, c Config, passwords []byte) {
	for _, host := range c.Hosts {
		certificate, key, err := ca.issue(host, c.Now)
		if w.err = errors.Join(w.err, err); w.err != nil {
			return
		}
		w.file(host+"/"+CAFile, ca.certificate)
		w.file(host+"/server.crt", certificate)
		w.file(host+"/server.key", key)
		w.file(host+"/passwords.conf", passwords)
	}
}

// roles writes each role's folder, and returns what the servers compare its
// password with.
func (w *writer) roles(ca *authority, c Config) (passwords []byte) {
	for _, role := range Roles {
		password := rand.Text()
		// The least cost is enough for what cannot be guessed.
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if w.err = errors.Join(w.err, err); w.err != nil {
			return nil
		}
		passwords = fmt.Appendf(passwords, "%s_PASSWORD: %q\n", strings.ToUpper(role), hash)
		servers := make([]string, len(c.Hosts))
		for i, host := range c.Hosts {
			u := url.URL{Scheme: "tls", User: url.UserPassword(role, password), Host: net.JoinHostPort(host, natsPort)}
			servers[i] = u.String()
		}
		w.file(role+"/"+URLFile, []byte(strings.Join(servers, ",")+"\n"))
		w.file(role+"/"+CAFile, ca.certificate)
	}
	return passwords
}

// databases writes what is needed to reach Postgres, and to look at Grafana. Both
// take the password of their administrator when they begin: one that is there
// stays. The others are given to Postgres by Logins.
func (w *writer) databases() {
	w.file(loginsDir+"/"+DatabaseFile, databaseURL(superuser, w.once("postgres/password")))
	for role := range databaseRoles {
		w.file(role+"/"+DatabaseFile, databaseURL(role, w.login(role)))
	}
	w.file("grafana/"+ReportingFile, []byte(w.login(postgres.ReportingRole)))
	w.once("grafana/password")
}

// login makes a password, and writes what the server compares it with.
func (w *writer) login(name string) (password string) {
	password = rand.Text()
	w.file(loginsDir+"/"+name, verifier(password))
	return password
}

func databaseURL(user, password string) []byte {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: postgresHost, Path: "paldies"}
	return []byte(u.String() + "\n")
}

// once is the secret in a file, which is made if it is not there.
func (w *writer) once(name string) string {
	known, err := os.ReadFile(filepath.Join(w.dir, filepath.FromSlash(name)))
	switch {
	case err == nil && len(known) > 0:
		return string(known)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		w.err = errors.Join(w.err, err)
	}
	made := rand.Text()
	w.file(name, []byte(made))
	return made
}

// auditors writes the token for which the signer serves the events themselves.
func (w *writer) auditors() {
	token := []byte(rand.Text())
	w.file("signer/auditor-token", token)
	w.file("auditor/auditor-token", token)
}

// authority vouches for the servers of one deployment and for nobody else.
type authority struct {
	certificate, key []byte // in PEM
	parsed           *x509.Certificate
	signer           *ecdsa.PrivateKey
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificate("Paldies NATS authority", now)
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	a := &authority{signer: key, parsed: template}
	if a.certificate, a.key, err = a.sign(template, key); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(a.certificate)
	a.parsed, err = x509.ParseCertificate(block.Bytes)
	return a, err
}

// issue makes the certificate of a server. Servers are each other's clients too.
func (a *authority) issue(host string, now time.Time) (crt, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := certificate(host, now)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	return a.sign(template, signer)
}

// certificate is what all have in common. It is good from an hour ago, for the
// clocks of the machines differ.
func certificate(name string, now time.Time) *x509.Certificate {
	serial := make([]byte, 16)
	rand.Read(serial) // never fails
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateValid)}
}

func (a *authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) (crt, private []byte, err error) {
	der, err := x509.CreateCertificate(rand.Reader, template, a.parsed, key.Public(), a.signer)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}
