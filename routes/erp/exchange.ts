// Records by the thousand, in and out by files.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  assertSource,
  Export,
  exportList,
  exportPermission,
  getExport,
  Import,
  ImportError,
  ImportPreview,
  importErrors,
  importLifecycle,
  importList,
  NewExport,
  NewImport,
  permissionsOf,
  previewImport,
  startExport,
  startImport,
  visibleExports,
} from '../../domain/erp/exchange/index.ts'
import { documentRoutes } from '../http/document-routes.ts'
import { guarded, ok, Pagination } from '../http/envelope.ts'
import { fileReaderOf } from '../http/file-reader.ts'
import { pageOf, placeIn } from '../http/pages.ts'
import { Id } from '../http/reading-routes.ts'

const Page = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 200 })),
    cursor: Type.Optional(Type.String({ maxLength: 2000 })),
  },
  { additionalProperties: false },
)

export default async function exchange(app: FastifyInstance) {
  await app.register(
    documentRoutes({
      module: null,
      permission: 'erp.import',
      list: importList,
      schema: Import.schema,
      get: (tx, id) => importLifecycle.get(tx, id),
      create: {
        summary: 'Read records from a file that was uploaded, CSV or XLSX, and look at them',
        body: NewImport,
        run: (tx, input, request) => {
          for (const permission of permissionsOf(input)) request.require(permission)
          return startImport(tx, input, fileReaderOf(request))
        },
      },
      moves: {
        lifecycle: importLifecycle,
        move: (tx, name, id, version, input) => importLifecycle.move(tx, name, id, version, input),
        input: { apply: (request) => ({ may: (permission: string) => request.may(permission) }) },
      },
    }),
  )
  app.get<{ Params: { id: string } }>(
    '/erp/imports/:id/preview',
    {
      level: 'workspace',
      permission: 'erp.import.read',
      schema: {
        tags: ['imports'],
        summary: 'The first lines as they were read',
        params: Id,
        response: { 200: ok(Type.Array(ImportPreview)), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await request.read(async (tx) => {
        const { id, file_id } = await importLifecycle.get(tx, request.params.id)
        await assertSource(tx, file_id, fileReaderOf(request))
        return previewImport(tx, id)
      }),
    }),
  )
  app.get<{ Params: { id: string }; Querystring: Static<typeof Page> }>(
    '/erp/imports/:id/errors',
    {
      level: 'workspace',
      permission: 'erp.import.read',
      schema: {
        tags: ['imports'],
        summary: 'What is wrong, line by line',
        params: Id,
        querystring: Page,
        response: { 200: ok(Type.Array(ImportError), { pagination: Pagination }), ...guarded('not_found', 'invalid_cursor') },
      },
    },
    async (request) => {
      const { limit = 200, cursor } = request.query
      const list = `import errors ${request.params.id}`
      const [after = 0] = (placeIn(request, list, cursor) ?? []) as [number?]
      const found = await request.read(async (tx) => {
        const { id, file_id } = await importLifecycle.get(tx, request.params.id)
        await assertSource(tx, file_id, fileReaderOf(request))
        return importErrors(tx, id, limit, after)
      })
      return pageOf(request, list, limit, found, ({ line }) => [line])
    },
  )
  await app.register(
    documentRoutes({
      module: null,
      permission: 'erp.export',
      list: exportList,
      schema: Export.schema,
      get: (tx, id, request) => getExport(tx, id, fileReaderOf(request)),
      visible: (request) => [visibleExports(fileReaderOf(request))],
      create: {
        summary: 'Write a list into a file, CSV or XLSX, as it is filtered and sorted',
        body: NewExport,
        run: (tx, input, request) => {
          request.require(exportPermission(input.entity))
          return startExport(tx, input)
        },
        refusals: ['invalid_query'],
        notImpersonated: true,
        // A tenant that may only read takes its data with it.
        allowReadOnly: true,
      },
    }),
  )
}
