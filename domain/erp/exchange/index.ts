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
  linesOf,
  mappable,
  NewImport,
  noteHeading,
  noteTaken,
  permissionsOf,
  previewImport,
  rememberedMapping,
  settleImport,
  startImport,
  takeLines,
} from './import.ts'
export type { AskedBy } from './job.ts'
export { LineReader, suggest } from './lines.ts'
