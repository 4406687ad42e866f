package report

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"io/fs"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// lettersTemplate is the file of a folder of templates that is run; the others
// are for it to include.
const lettersTemplate = "letters.html"

// templatesBytesMax bounds all the templates of a folder, in bytes. Pictures may
// be part of them, as data: URLs.
const templatesBytesMax = 8 << 20

// ErrTemplates says that a folder of templates cannot be used.
var ErrTemplates = errors.New("the templates cannot be used")

// Letters are letters of gratitude, as templates get them. Names are in the
// nominative: nobody can tell from a text how a name is declined, so that the
// default template needs no other case.
type Letters struct {
	Campaign string
	Title    string
	Date     time.Time // when they were made, in the campaign's time zone
	Letters  []Letter
}

// Letter is for one person.
type Letter struct {
	Number int // 1 for the first
	Honoured
}

// letterColumns are those of the table for mail merge.
var letterColumns = columns("number", "specialist_id", "name", "position", "institution", "branch", "region", "rank", "votes")

// NewLetters are those of the awards. Who has no name cannot get one.
func NewLetters(a *Awards, zone *time.Location, now time.Time) (*Letters, error) {
	l := &Letters{Campaign: a.Campaign, Title: a.Title, Date: now.In(zone)}
	for _, p := range a.Prizes {
		if p.Award != domain.Letter {
			continue
		}
		for i, w := range p.Winners {
			if w.Name == "" {
				return nil, fmt.Errorf("specialist %s has no name to write in a letter: `paldies specialist update` gives one", w.Specialist)
			}
			l.Letters = append(l.Letters, Letter{i + 1, w})
		}
	}
	return l, nil
}

// Table writes a row for each letter, for mail merge.
func (l *Letters) Table(to Sheet) error {
	if err := to.Begin(About{Campaign: l.Campaign, Title: l.Title, What: "letters"}, letterColumns, l.Date.Location()); err != nil {
		return err
	}
	for _, one := range l.Letters {
		if err := to.Row([]any{one.Number, one.Specialist, one.Name, one.Position, one.Institution, one.Branch, one.Region, one.Rank, one.Votes}); err != nil {
			return err
		}
	}
	return to.End(Summary{})
}

// HTML writes all letters, a page each, by the templates of a folder, or by the
// default one when it is nil.
func (l *Letters) HTML(w io.Writer, folder fs.FS) error {
	t, err := parseLetters(folder)
	if err != nil {
		return err
	}
	if err := t.ExecuteTemplate(w, lettersTemplate, l); err != nil {
		return fmt.Errorf("%w: %w", ErrTemplates, err)
	}
	return nil
}

func parseLetters(folder fs.FS) (*htmltemplate.Template, error) {
	if folder == nil {
		return htmltemplate.ParseFS(templates, "templates/"+lettersTemplate)
	}
	names, err := fs.Glob(folder, "*.html")
	if err != nil {
		return nil, err
	}
	var size int64
	for _, name := range names {
		info, err := fs.Stat(folder, name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTemplates, err)
		}
		size += info.Size()
	}
	if size > templatesBytesMax {
		return nil, fmt.Errorf("%w: they have %d bytes, at most %d are read", ErrTemplates, size, templatesBytesMax)
	}
	if _, err := fs.Stat(folder, lettersTemplate); err != nil {
		return nil, fmt.Errorf("%w: there is no %s: %w", ErrTemplates, lettersTemplate, err)
	}
	t, err := htmltemplate.ParseFS(folder, names...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemplates, err)
	}
	return t, nil
}
