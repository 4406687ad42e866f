package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/eventstore/transparency"
)

func (a *app) auditExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export --campaign ID FILE.tar.gz",
		Short: "Write a campaign's log into one archive, for an auditor to take away",
		Long: "Write a campaign's log into one archive: checkpoints, tiles, bundles and vkey. It holds\n" +
			"every event and no personal data. Unpacked, `audit verify --log` checks it anywhere;\n" +
			"the verifier key should reach the auditor by another way. The log may grow meanwhile.",
		Args: cobra.ExactArgs(1),
	}
	campaign := campaignFlag(cmd)
	dir := logFlag(cmd, "folder of the log (default: log/ID in the data directory)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := a.logFolder(*dir, *campaign)
		if err != nil {
			return err
		}
		files, err := exportLog(cmd.Context(), f, *campaign, args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.err, "%d files of the log of campaign %s in %s\n", files, *campaign, args[0])
		return err
	}
	return cmd
}

// exportLog writes a new archive, which is there as a whole or not at all.
func exportLog(ctx context.Context, f *transparency.Folder, campaign, name string) (files int, err error) {
	keys, err := f.Keys()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, noLog(f.Dir(), campaign)
	}
	if err != nil {
		return 0, err
	}
	if _, err := sameCampaign(keys, campaign); err != nil {
		return 0, err
	}
	err = writeNewFile(name, func(w io.Writer) error {
		compressed := gzip.NewWriter(w)
		archive := tar.NewWriter(compressed)
		err := f.Export(keys, func(path string, data []byte) error {
			files++
			header := &tar.Header{Name: campaign + "/" + path, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}
			if err := errors.Join(ctx.Err(), archive.WriteHeader(header)); err != nil {
				return err
			}
			_, err := archive.Write(data)
			return err
		})
		return errors.Join(err, archive.Close(), compressed.Close())
	})
	return files, err
}
