//go:build !unix

package transparency

// syncDir has nothing to do: directories cannot be synced here.
func syncDir(string) error { return nil }
