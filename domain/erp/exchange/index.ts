export { EXCHANGED, exchanged } from './entities.ts'
export { Export, exportList, getExport, MOST_IN_WORKBOOK, NewExport, noteExported, startExport } from './export.ts'
export {
  CHUNK,
  codesRead,
  Import,
  ImportError,
  ImportPreview,
  importErrors,
  importLifecycle,
  importList,
  keepLines,
  MOST_LINES,
  mappable,
  NewImport,
  noteFailed,
  noteHeading,
  noteRead,
  noteTaken,
  previewImport,
  rememberedMapping,
  startImport,
  takeLines,
} from './import.ts'
export { LineReader, suggest } from './lines.ts'
