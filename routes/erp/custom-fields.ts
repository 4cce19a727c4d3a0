// What fields a company has added, for whoever draws a form.
import type { FastifyInstance } from 'fastify'
import { describeCustom } from '../../domain/erp/fields/index.ts'
import { CustomSchemas } from '../../domain/kernel/index.ts'
import { guarded, ok } from '../http/envelope.ts'

export default async function customFieldSchemas(app: FastifyInstance) {
  app.get(
    '/custom-fields',
    {
      level: 'organization',
      permission: 'erp.custom_field.read',
      schema: {
        tags: ['custom-fields'],
        summary: 'The company’s own fields of each entity, as JSON Schema',
        response: { 200: ok(CustomSchemas), ...guarded() },
      },
    },
    async (request) => ({ data: await request.read(describeCustom) }),
  )
}
