package intake

// ReadImportMax is ReadImport with another limit of rows.
var ReadImportMax = readImport
