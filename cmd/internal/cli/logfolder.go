package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// originPrefix begins the name of every campaign's log.
const originPrefix = "sakipaldies.lv/ledger/"

// logFolder is the log of a campaign in a directory, by default the data
// directory's.
func (a *app) logFolder(dir, campaign string) (*transparency.Folder, error) {
	if err := domain.ValidateCampaignID(campaign); err != nil {
		return nil, usagef("%v", err)
	}
	if dir == "" {
		dir = filepath.Join(a.dataDir, "log", campaign)
	}
	return transparency.NewFolder(dir), nil
}

// logFlag adds --log. One folder is one campaign's, so that it is not taken from
// the environment.
func logFlag(cmd *cobra.Command, usage string) *string {
	dir := cmd.Flags().String("log", "", usage)
	notFromEnvironment(cmd, "log")
	return dir
}

// noLog says that there is no log where it was looked for.
func noLog(dir, campaign string) error {
	return fmt.Errorf("%w: there is no log of campaign %s in %s: `paldies dev` and `paldies seal` make it, and --log names another folder", transparency.ErrNotSealed, campaign, dir)
}

// readFile reads a small file that a flag or an argument names.
func readFile(what, name string, bytesMax int64) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil || !info.Mode().IsRegular():
		return nil, usagef("%s %s: there is no such file", what, name)
	case info.Size() > bytesMax:
		return nil, usagef("%s %s: it has %d bytes, at most %d are read", what, name, info.Size(), bytesMax)
	}
	return os.ReadFile(name)
}

// existingLog is a log's folder that must be there.
func existingLog(dir string) (*transparency.Folder, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, usagef("--log %s: there is no such folder", dir)
	}
	return transparency.NewFolder(dir), nil
}

// verifierFlag adds --key.
func verifierFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("key", "", "verifier key of the log, or a file with it: from its operator, not from the folder that is checked")
}

// verifierKeys reads the value of --key: keys themselves, or the name of a file
// that holds them.
func verifierKeys(value string) (*transparency.Keys, error) {
	text := value
	if !strings.Contains(value, "+") || fileExists(value) {
		data, err := os.ReadFile(value)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("--key %s: there is no such file, and it is no verifier key (name+hash+key)", value)
		}
		if err != nil {
			return nil, usagef("--key: %v", err)
		}
		text = string(data)
	}
	keys, err := transparency.ParseKeys(text)
	if err != nil {
		return nil, usagef("--key: %v", err)
	}
	if _, err := campaignOf(keys); err != nil {
		return nil, usagef("--key: %v", err)
	}
	return keys, nil
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// campaignOf is the campaign whose log the keys are of.
func campaignOf(keys *transparency.Keys) (string, error) {
	campaign, ok := strings.CutPrefix(keys.Origin(), originPrefix)
	if !ok || domain.ValidateCampaignID(campaign) != nil {
		return "", fmt.Errorf("the key is of %q, which is no campaign's log (%s<campaign>)", keys.Origin(), originPrefix)
	}
	return campaign, nil
}

// sameCampaign refuses keys of another campaign than the one that was named, if
// one was.
func sameCampaign(keys *transparency.Keys, campaign string) (string, error) {
	of, err := campaignOf(keys)
	if err != nil {
		return "", usageError{err}
	}
	if campaign != "" && campaign != of {
		return "", usagef("the key is of the campaign %s, not of %s", of, campaign)
	}
	return of, nil
}

// signingKey loads the key that signs a campaign's log, or makes it for a log
// that has none yet. The verifier keys are those of the folder, and lack it
// only when they are of another key.
func (a *app) signingKey(path string, f *transparency.Folder, campaign string) (signing string, keys *transparency.Keys, made bool, err error) {
	signing, err = keyring.LoadSigning(path)
	if errors.Is(err, keyring.ErrMissingSigning) {
		if _, keysErr := f.Keys(); !errors.Is(keysErr, fs.ErrNotExist) {
			return "", nil, false, fmt.Errorf("%w: the log in %s has a key already: restore it from its backup, or make another one with `paldies seal keygen --campaign %s`",
				errors.Join(err, keysErr), f.Dir(), campaign)
		}
		if signing, err = firstSigningKey(path, campaign); err != nil {
			return "", nil, false, err
		}
		made = true
	}
	if err != nil {
		return "", nil, false, err
	}
	verifier, err := transparency.VerifierKey(signing)
	if err != nil {
		return "", nil, false, fmt.Errorf("%s: %w", path, err)
	}
	keys, err = f.Keys()
	if errors.Is(err, fs.ErrNotExist) {
		// It was not written yet when the key was made, or the folder is new.
		if err = f.AddKey(verifier); err == nil {
			keys, err = f.Keys()
		}
	}
	return signing, keys, made, err
}

// firstSigningKey makes a key, or takes the one that another process has made
// meanwhile.
func firstSigningKey(path, campaign string) (string, error) {
	signing, _, err := transparency.GenerateKey(originPrefix + campaign)
	if err != nil {
		return "", err
	}
	if err := keyring.CreateSigning(path, signing); err != nil {
		return "", err
	}
	return keyring.LoadSigning(path)
}

// replaceSigningKey makes another key and puts its verifier key where the log
// is. The verifier key comes second: a key that nobody can verify signs nothing.
func (a *app) replaceSigningKey(path string, f *transparency.Folder, campaign string) (string, error) {
	signing, verifier, err := transparency.GenerateKey(originPrefix + campaign)
	if err != nil {
		return "", err
	}
	if err := keyring.ReplaceSigning(path, signing, a.now().UTC().Format("20060102T150405Z")); err != nil {
		return "", err
	}
	return signing, f.AddKey(verifier)
}
