package deploy

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sakipaldies.lv/ledger/projections/postgres"
)

// scramIterations are those of Postgres. More would not help: passwords are random.
const scramIterations = 4096

// Logins reads from its folder what the job has that makes the users of Postgres.
func Logins(dir string) (list []postgres.Login, err error) {
	roles := map[string]string{postgres.ReportingRole: postgres.ReportingRole}
	for name, role := range databaseRoles {
		roles[name] = role
	}
	for name, role := range roles {
		verifier, readErr := os.ReadFile(filepath.Join(dir, name))
		err = errors.Join(err, readErr)
		list = append(list, postgres.Login{Name: name, Role: role, Verifier: strings.TrimSpace(string(verifier))})
	}
	if err != nil {
		return nil, fmt.Errorf("the folder of the logins is made by paldies deploy secrets: %w", err)
	}
	return list, nil
}

// verifier is what Postgres compares a password with (RFC 5803).
func verifier(password string) []byte {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		panic(err) // lengths that are no secrets' are refused, and these are constant
	}
	sign := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	text := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "SCRAM-SHA-256$%d:%s$%s:%s\n", scramIterations, text(salt), text(stored[:]), text(sign("Server Key")))
}
