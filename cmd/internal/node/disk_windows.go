package node

import "golang.org/x/sys/windows"

// errnoDiskFull is the system's own error for a full disk.
const errnoDiskFull = windows.ERROR_DISK_FULL

// diskFree is what this user may still write to the directory's volume, in
// bytes.
func diskFree(dir string) (uint64, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(path, &free, nil, nil); err != nil {
		return 0, err
	}
	return free, nil
}
