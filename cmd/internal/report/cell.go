package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// formulas are the first characters with which spreadsheets take a text for a
// formula, see "CSV Injection" by OWASP; the last four are their wide forms.
const formulas = "=+-@\t\r\n＝＋－＠"

// inert is a text that a spreadsheet does not take for a formula. Whoever
// registers specialists chooses their names, and =HYPERLINK(…) would run on the
// computer of whoever opens the export. The apostrophe stays visible, and keeps
// its effect when the file is saved as another kind.
func inert(s string) string {
	if s != "" && strings.ContainsRune(formulas, firstRune(s)) {
		return "'" + s
	}
	return s
}

func firstRune(s string) rune {
	for _, r := range s {
		return r
	}
	return 0
}

// separators are what spreadsheets split lines at, depending on the country.
const separators = ",;\t"

// InertText is inert within a line, too: a spreadsheet that expects another
// separator begins a cell where the file has none.
func InertText(s string) string {
	var out strings.Builder
	for {
		at := strings.IndexAny(s, separators)
		if at < 0 {
			break
		}
		out.WriteString(inert(s[:at]))
		out.WriteByte(s[at])
		s = s[at+1:]
	}
	out.WriteString(inert(s))
	return out.String()
}

// isoTime is a moment with the offset that was in force there and then.
func isoTime(t time.Time, zone *time.Location) string {
	return t.In(zone).Format("2006-01-02T15:04:05.000-07:00")
}

// text is a value as CSV has it; texts are made inert by the caller.
func text(value any, zone *time.Location) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case time.Time:
		return isoTime(v, zone), nil
	case uint64:
		return strconv.FormatUint(v, 10), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case int:
		return strconv.Itoa(v), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", fmt.Errorf("a cell cannot hold a %T", value)
}
