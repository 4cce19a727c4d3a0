export { csvLine } from './csv.ts'
export {
  deleteFile,
  type ExportedFile,
  expiredFiles,
  FileDocument,
  FileLink,
  FileObject,
  fileList,
  filesOf,
  getFile,
  linkFile,
  listFiles,
  NewLink,
  noteExpired,
  noteFile,
  noteVerdict,
  RecordName,
  restrictFile,
  unlinkFile,
} from './file.ts'
export { FileKeeper, PREVIEW_SIZES, type PreviewSize } from './keeper.ts'
export { assertDownloadable, type FileReader, LINKABLE, mayKnowFile, readPermissionOf } from './reader.ts'
export { clamd } from './scanner.ts'
export { type FileStore, FolderStore, S3Store } from './store.ts'
export { type Cell, charactersOf, ENCODINGS, type Encoding, TABLE_LIMITS } from './table-limits.ts'
export { readTable } from './tables.ts'
export { writeWorkbook, XLSX } from './workbook.ts'
