package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
)

// devChannels are the channels for which dev makes tokens: those that a
// campaign has unless it says otherwise. The first one's file has the short
// name.
var devChannels = []string{"web", "mobile", "in_person"}

// devTokenPath is where the token of a channel is, for whoever tries the API
// on this machine.
func devTokenPath(dataDir, channel string) string {
	name := "dev-token"
	if channel != devChannels[0] {
		name += "-" + channel
	}
	return filepath.Join(dataDir, name)
}

// devTokensLine is what the banner says of them.
func devTokensLine(dataDir string) [2]string {
	files := []string{devTokenPath(dataDir, devChannels[0])}
	for _, channel := range devChannels[1:] {
		files = append(files, filepath.Base(devTokenPath(dataDir, channel)))
	}
	return [2]string{"tokens", fmt.Sprintf("%s (channels %s)", strings.Join(files, ", "), strings.Join(devChannels, ", "))}
}

// makeDevTokens makes a credential for each of the dev channels, and a file
// with its token, unless there is a good one from a former start.
func (a *app) makeDevTokens(ctx context.Context, n *node.Node) error {
	store, err := a.credentials(n)
	if err != nil {
		return err
	}
	for _, channel := range devChannels {
		path := devTokenPath(n.DataDir(), channel)
		good, err := checkDevToken(ctx, store, path, channel)
		if err == nil && !good {
			err = addDevToken(ctx, store, path, channel)
		}
		if err != nil {
			return fmt.Errorf("token of channel %s for %s: %w", channel, path, err)
		}
	}
	return nil
}

// checkDevToken says whether the file has a token of the channel that is in
// force and that nobody else could read. One that others could read is
// revoked.
func checkDevToken(ctx context.Context, store *credential.Store, path, channel string) (good bool, err error) {
	token, exposed, err := keyring.LoadToken(path)
	if err != nil || token == "" {
		return false, err
	}
	c, err := store.Check(ctx, token)
	switch {
	case errors.Is(err, credential.ErrMalformed), errors.Is(err, credential.ErrUnknown),
		errors.Is(err, credential.ErrRevoked), errors.Is(err, credential.ErrExpired), errors.Is(err, credential.ErrCorrupt):
		return false, nil
	case err != nil:
		return false, err
	case exposed:
		_, _, err = store.Revoke(ctx, c.ID)
		return false, err
	}
	return c.Role == domain.RoleChannel && c.Channel == channel && c.Campaign == "", nil
}

// addDevToken makes the credential first: a token in a file that nobody knows
// would look as if it were good.
func addDevToken(ctx context.Context, store *credential.Store, path, channel string) error {
	token, _, err := store.Add(ctx, credential.Credential{Role: domain.RoleChannel, Channel: channel, Note: "made by paldies dev for " + filepath.Base(path)})
	if err != nil {
		return err
	}
	return keyring.SaveToken(path, token)
}
