package report

// SetSheetRows lets a test fill a sheet with few rows, the header's included.
func SetSheetRows(x *XLSX, rows int) { x.limit = rows }
