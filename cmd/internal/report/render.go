package report

import (
	"embed"
	"fmt"
	htmltemplate "html/template"
	"io"
	"strings"
	"text/template"
	"time"
)

//go:embed templates
var templates embed.FS

// Markdown writes the protocol as CommonMark with tables.
func (p *Protocol) Markdown(w io.Writer, l Language) error {
	return writeMarkdown(w, "protocol.md", l, p.zone, p)
}

// Markdown writes the awards as CommonMark with tables.
func (a *Awards) Markdown(w io.Writer, l Language) error {
	return writeMarkdown(w, "awards.md", l, time.UTC, a)
}

func writeMarkdown(w io.Writer, name string, l Language, zone *time.Location, data any) error {
	t, err := template.New(name).Funcs(functions(l, zone)).Funcs(template.FuncMap{"md": markdown}).
		ParseFS(templates, "templates/"+name, "templates/prizes.md")
	if err != nil {
		return err
	}
	return t.Execute(w, data)
}

// HTML writes the protocol as a page that prints on A4.
func (p *Protocol) HTML(w io.Writer, l Language) error {
	t, err := htmltemplate.New("protocol.html").Funcs(functions(l, p.zone)).ParseFS(templates, "templates/protocol.html")
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// functions are what the templates of both kinds can call.
func functions(l Language, zone *time.Location) map[string]any {
	return map[string]any{
		"t":        func(name any) (string, error) { return l.word(fmt.Sprint(name)) },
		"lang":     func() string { return string(l) },
		"sentence": l.sentence,
		"moment":   func(t time.Time) string { return moment(t, zone) },
		"boundary": func(p Prize) (string, error) { return p.Boundary(l) },
	}
}

// markdown is a text of which nobody here is the author, with what Markdown
// would take for a mark escaped.
func markdown(s string) string {
	var out strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\`*_{}[]<>#|~&!$", r) {
			out.WriteByte('\\')
		}
		out.WriteRune(r)
	}
	return out.String()
}
