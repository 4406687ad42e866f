package report

// SetSheetRows lets a test fill a sheet with few rows, the header's included.
func SetSheetRows(x *XLSX, rows int) { x.limit = rows }

// Words are the texts of the templates in Latvian and in English.
var Words = func() map[string][2]string {
	all := make(map[string][2]string)
	for name, w := range words {
		all[name] = [2]string{w.lv, w.en}
	}
	return all
}()
