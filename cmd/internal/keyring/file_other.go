//go:build !unix

package keyring

import "io/fs"

// exposed cannot be told from the mode of a file here.
func exposed(fs.FileInfo) bool { return false }

// syncDir has nothing to do: folders cannot be synced here.
func syncDir(string) error { return nil }
