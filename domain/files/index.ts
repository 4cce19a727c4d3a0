export { csvLine } from './csv.ts'
export {
  deleteFile,
  FileDocument,
  FileLink,
  FileObject,
  fileList,
  filesOf,
  getFile,
  linkFile,
  NewLink,
  noteFile,
  noteVerdict,
  unlinkFile,
} from './file.ts'
export { FileKeeper, PREVIEW_SIZES, type PreviewSize } from './keeper.ts'
export { clamd } from './scanner.ts'
export { type FileStore, FolderStore, S3Store } from './store.ts'
export { type Cell, ENCODINGS, type Encoding, TABLE_LIMITS } from './table-limits.ts'
export { readTable } from './tables.ts'
export { writeWorkbook } from './workbook.ts'
