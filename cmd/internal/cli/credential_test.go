package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sakipaldies.lv/ledger/cmd/internal/credential"
)

// tokens are in what commands print.
var tokens = regexp.MustCompile(`paldies_([0-9a-z]{10})_([0-9a-z]{52})`)

// scriptTokenID is `token-id FILE`: it sets TOKEN to the token in a file, and
// ID to the id in it.
func scriptTokenID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: token-id FILE")
	}
	found := tokens.FindStringSubmatch(ts.ReadFile(args[0]))
	if found == nil {
		ts.Fatalf("there is no token in %s", args[0])
	}
	ts.Setenv("TOKEN", found[0])
	ts.Setenv("ID", found[1])
}

// scriptSecretsHidden is `secrets-hidden FILE…`: the last command has printed
// neither the secrets in the files nor their hashes.
func scriptSecretsHidden(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: secrets-hidden FILE...")
	}
	printed := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	for _, file := range args {
		found := tokens.FindStringSubmatch(ts.ReadFile(file))
		if found == nil {
			ts.Fatalf("there is no token in %s", file)
		}
		hash := sha256.Sum256([]byte(found[2]))
		for _, secret := range []string{found[2], hex.EncodeToString(hash[:])} {
			if strings.Contains(printed, secret) {
				ts.Fatalf("the secret of %s was printed", found[1])
			}
		}
	}
}

// TestCredentialStatus: a list says which credentials are good for nothing any
// more, and why.
func TestCredentialStatus(t *testing.T) {
	now := time.Date(2018, 11, 12, 0, 0, 0, 0, time.UTC)
	for want, c := range map[string]credential.Credential{
		"in_force": {Expires: now.Add(time.Millisecond)},
		"expired":  {Expires: now},
		"revoked":  {Expires: now, Revoked: now.Add(-time.Hour)},
	} {
		if got := viewCredential(c, now).Status; got != want {
			t.Errorf("%+v is %s, want %s", c, got, want)
		}
	}
}
