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
	t, err := template.New("protocol.md").Funcs(p.functions(l)).Funcs(template.FuncMap{"md": markdown}).ParseFS(templates, "templates/protocol.md")
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// HTML writes the protocol as a page that prints on A4.
func (p *Protocol) HTML(w io.Writer, l Language) error {
	t, err := htmltemplate.New("protocol.html").Funcs(p.functions(l)).ParseFS(templates, "templates/protocol.html")
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// functions are what the templates of both kinds can call.
func (p *Protocol) functions(l Language) map[string]any {
	return map[string]any{
		"t":        func(name any) (string, error) { return l.word(fmt.Sprint(name)) },
		"lang":     func() string { return string(l) },
		"sentence": l.sentence,
		"moment":   func(t time.Time) string { return moment(t, p.zone) },
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
