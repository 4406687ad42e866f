package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/cli"
)

// devTokenFiles are the files with the tokens of dev, by channel.
var devTokenFiles = map[string]string{"web": "dev-token", "mobile": "dev-token-mobile", "in_person": "dev-token-in_person"}

// devTokens reads the tokens of dev, by channel.
func devTokens(t *testing.T, data string) map[string]string {
	t.Helper()
	read := make(map[string]string)
	for channel, file := range devTokenFiles {
		path := filepath.Join(data, file)
		text, err := os.ReadFile(path)
		check(t, err)
		info, err := os.Stat(path)
		check(t, err)
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", path, info.Mode().Perm())
		}
		read[channel] = strings.TrimSuffix(string(text), "\n")
	}
	return read
}

// listedCredential is a line of `paldies channel list -o json`.
type listedCredential struct {
	ID, Channel, Status, Note string
	Rate                      float64
}

func listCredentials(t *testing.T, data string) (all []listedCredential) {
	t.Helper()
	check(t, json.Unmarshal([]byte(succeed(t, "--data", data, "channel", "list", "-o", "json")), &all))
	return all
}

// tokenID is the public part of a token.
func tokenID(token string) string { return strings.Split(token, "_")[1] }

// startAndStop runs dev once, logging everything, and returns what it said.
func startAndStop(t *testing.T, data string) (banner map[string]string, said string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	var errOut bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, []string{"--data", data, "--log-level", "debug", "dev", "--http", "127.0.0.1:0"}, nil, in, &errOut)
		in.Close() // never fails
	}()
	banner = readBanner(t, out)
	stop()
	if code := <-ended; code != 0 {
		t.Fatalf("dev ended with code %d: %s", code, errOut.String())
	}
	return banner, errOut.String()
}

// TestDevTokens: dev has a token for each of the usual channels, which stay the
// same until one of them is lost, revoked or was open to others.
func TestDevTokens(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dati")
	banner, said := startAndStop(t, data)
	mentions(t, banner["tokens"], filepath.Join(data, "dev-token")+",", "dev-token-mobile", "dev-token-in_person")
	first := devTokens(t, data)
	all := listCredentials(t, data)
	if len(all) != len(devTokenFiles) {
		t.Fatalf("the credentials are %+v", all)
	}
	for _, c := range all {
		if tokenID(first[c.Channel]) != c.ID || c.Status != "in_force" || c.Rate != 0 || !strings.Contains(c.Note, devTokenFiles[c.Channel]) {
			t.Errorf("%+v has not the token %s", c, tokenID(first[c.Channel]))
		}
	}
	_, more := startAndStop(t, data)
	if second := devTokens(t, data); second["web"] != first["web"] || second["mobile"] != first["mobile"] || second["in_person"] != first["in_person"] {
		t.Error("a second start has made other tokens")
	}
	for _, token := range first {
		if secret := strings.Split(token, "_")[2]; strings.Contains(said+more, secret) || strings.Contains(banner["tokens"], secret) {
			t.Error("dev has told a secret")
		}
	}

	check(t, os.Remove(filepath.Join(data, "dev-token-mobile")))
	succeed(t, "--data", data, "channel", "revoke", tokenID(first["in_person"]))
	check(t, os.Chmod(filepath.Join(data, "dev-token"), 0o644))
	startAndStop(t, data)
	third := devTokens(t, data)
	for channel := range devTokenFiles {
		if third[channel] == first[channel] && !(channel == "web" && runtime.GOOS == "windows") {
			t.Errorf("the token of %s is still the same", channel)
		}
	}
	for _, c := range listCredentials(t, data) {
		if c.ID == tokenID(first["web"]) && c.Status != "revoked" && runtime.GOOS != "windows" {
			t.Errorf("a token that others could read is good: %+v", c)
		}
	}

	check(t, os.WriteFile(filepath.Join(data, "dev-token"), []byte(third["mobile"]+"\n"), 0o600))
	check(t, os.WriteFile(filepath.Join(data, "dev-token-in_person"), []byte("puse"), 0o600))
	startAndStop(t, data)
	fourth := devTokens(t, data)
	if fourth["web"] == third["mobile"] || fourth["in_person"] == "puse" || fourth["mobile"] != third["mobile"] {
		t.Error("the token of another channel, or half a token, was taken for a good one")
	}
}
