export { EXCHANGED, exchanged } from './entities.ts'
export {
  Export,
  type ExportReader,
  exportList,
  exportPermission,
  getExport,
  MOST_IN_WORKBOOK,
  NewExport,
  noteExported,
  startExport,
  visibleExports,
} from './export.ts'
export {
  assertSource,
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
export { countStart, type ExchangeJob, MAX_STARTS, withdrawStart } from './starts.ts'
