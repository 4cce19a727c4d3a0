// Readings: of one series as they were sent or in buckets, of many beside each other, and the latest of all.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { failure, oneOf, requireTimeZone, Timestamp, TimeZone, Uuid } from '../../domain/kernel/index.ts'
import {
  AGGREGATES,
  ALL_QUALITIES,
  Aligned,
  alignedSeries,
  BUCKETS,
  type BucketLength,
  bucketedReadings,
  Drawn,
  drawnSeries,
  FILLS,
  FillSchema,
  FURTHER,
  type Further,
  LatestReading,
  latestReadings,
  QualityFilter,
  qualitiesOf,
  ReadingOrBucket,
  rawReadings,
  readingsOf,
  type SeriesQuestion,
  SourceSchema,
  seriesOf,
  USUAL_QUALITIES,
} from '../../domain/telemetry/index.ts'
import { guarded, ok, Pagination } from '../http/envelope.ts'
import { pageOf, placeIn } from '../http/pages.ts'
import { formatOf, sendLines } from './lines.ts'

const LENGTHS = Object.keys(BUCKETS) as BucketLength[]
const between = {
  from: Type.Optional({ ...Timestamp, description: 'A day ago when nothing is said' }),
  to: Type.Optional({ ...Timestamp, description: 'Not in it itself; now when nothing is said' }),
}
const zone = {
  time_zone: Type.Optional({ ...TimeZone, description: 'Whose days and hours the buckets are; the company’s when nothing is said' }),
}
const quality = { quality: Type.Optional(QualityFilter) }
const deleted = {
  include_deleted: Type.Optional(
    Type.Boolean({
      default: false,
      description: 'Deleted devices, too, by code or id; takes the permission to delete and recover devices (telemetry.device.delete)',
    }),
  ),
}
const paged = {
  cursor: Type.Optional(Type.String({ maxLength: 2000 })),
}
const codes = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 8_000, description }))
const selector = {
  device: codes('Codes, with commas between; any when nothing is said'),
  metric: codes('Codes, with commas between; any when nothing is said'),
  profile_id: Type.Optional(Uuid),
  site_id: Type.Optional({ ...Uuid, description: 'Of devices that watch this location' }),
  batch_id: Type.Optional({ ...Uuid, description: 'Of devices that watch this batch' }),
  tag: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
  ...deleted,
}
const closed = { additionalProperties: false }

const Question = Type.Object(
  {
    device: Type.String({ minLength: 1, maxLength: 64 }),
    metric: Type.String({ minLength: 1, maxLength: 64 }),
    ...between,
    bucket: Type.Optional(oneOf(LENGTHS, { description: 'Nothing said: readings as they were sent' })),
    ...zone,
    fill: Type.Optional(FillSchema),
    ...quality,
    ...deleted,
    aggregates: Type.Optional(
      Type.String({
        maxLength: 200,
        description: `Of buckets, beside count, sum, min, max, avg, first and last: any of ${FURTHER.join(', ')}, with commas between`,
        examples: ['p95,rate'],
      }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, default: 1000 })),
    ...paged,
  },
  closed,
)
const ManyQuestion = Type.Object({ ...selector, ...between, ...quality }, closed)
const AlignedQuestion = Type.Object(
  {
    ...selector,
    ...between,
    bucket: Type.Optional(oneOf(LENGTHS, { description: 'Defaults to the shortest of which there are no more than `buckets`' })),
    buckets: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, default: 300 })),
    aggregate: Type.Optional(oneOf(AGGREGATES, { default: 'avg' })),
    fill: Type.Optional(oneOf(FILLS.slice(1) as unknown as ['null', 'previous', 'linear'], { default: 'null' })),
    ...zone,
    ...quality,
  },
  closed,
)
const DrawnQuestion = Type.Object(
  { ...selector, ...between, ...quality, points: Type.Optional(Type.Integer({ minimum: 3, maximum: 5_000, default: 500 })) },
  closed,
)
const LatestQuestion = Type.Object(
  { ...selector, limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000, default: 1_000 })), ...paged },
  closed,
)

/** From when to when is asked, at most five minutes ahead of now: as far as a device's clock may be. */
const spanOf = ({ from, to }: { from?: string; to?: string }) => ({
  from: new Date(from ?? Date.now() - 86_400_000).toISOString(),
  to: new Date(to ?? Date.now() + 300_000).toISOString(),
})

const listed = (given: string | undefined) => given?.split(',').filter(Boolean)
/** Throws `permission_denied` where deleted devices are asked for by those who may not bring them back. */
function includesDeleted(request: FastifyRequest, { include_deleted = false }: { include_deleted?: boolean }): boolean {
  if (include_deleted) request.require('telemetry.device.delete')
  return include_deleted
}
const seriesAsked = (request: FastifyRequest, question: Static<typeof ManyQuestion>): SeriesQuestion => {
  const { device, metric, profile_id, site_id, batch_id, tag } = question
  return {
    devices: listed(device),
    metrics: listed(metric),
    profile_id,
    site_id,
    batch_id,
    tag,
    include_deleted: includesDeleted(request, question),
  }
}

/** Throws `invalid_value` for a word that is none of them. */
function furtherOf(given: string | undefined): Further[] {
  const names = [...new Set(listed(given))]
  const wrong = names.find((name) => !(FURTHER as readonly string[]).includes(name))
  if (wrong !== undefined)
    throw failure('invalid_value', {
      path: '/aggregates',
      rule: 'name',
      message: `'${wrong.slice(0, 40)}' is none of ${FURTHER.join(', ')}`,
    })
  return names as Further[]
}

const timeZoneOf = (request: FastifyRequest, { time_zone = request.tenant.timezone }: { time_zone?: string }): string => {
  requireTimeZone(time_zone, '/time_zone')
  return time_zone
}

const PAGE = 5_000
const STREAMED_SERIES = 1_000

/** The pages of a series that ends with one that is not full. @param ask for one more than `PAGE`, before a moment */
async function* pagesOf<R extends { ts: string }>(ask: (before: string | null) => Promise<readonly R[]>): AsyncGenerator<readonly R[]> {
  for (let before: string | null = null; ; ) {
    const found: readonly R[] = await ask(before)
    const page = found.slice(0, PAGE)
    yield page
    if (found.length <= PAGE) return
    before = page.at(-1)!.ts
  }
}

/** Every reading, series by series and newest first. Throws `not_found`, `invalid_value`. */
async function everyReading(request: FastifyRequest, question: SeriesQuestion, asked: { from?: string; to?: string; quality?: string }) {
  const span = { ...spanOf(asked), qualities: qualitiesOf(asked.quality, ALL_QUALITIES) }
  const series = await request.read((tx) => seriesOf(tx, question, STREAMED_SERIES))
  return (async function* () {
    for (const one of series) {
      const { device, metric } = one
      const pages = pagesOf((before) => request.read((tx) => readingsOf(tx, one, { ...span, before, limit: PAGE })))
      for await (const page of pages) yield page.map(({ ts, value, quality }) => ({ device, metric, ts, value, quality }))
    }
  })()
}
const READING = ['device', 'metric', 'ts', 'value', 'quality'] as const
const BUCKET = ['ts', 'count', 'sum', 'min', 'max', 'avg', 'first', 'last'] as const

const tags = ['telemetry']
const options = { level: 'organization', permission: 'telemetry.reading.read', module: 'telemetry.devices', plane: 'telemetry' } as const

export default async function readings(app: FastifyInstance) {
  app.get<{ Querystring: Static<typeof Question> }>(
    '/telemetry/readings',
    {
      ...options,
      schema: {
        tags,
        summary: 'Readings of one device and metric, raw or by time bucket, newest first',
        description: 'All of them, streamed, with `Accept: text/csv` or `application/x-ndjson`; of filled buckets at most `limit`.',
        querystring: Question,
        response: {
          200: ok(Type.Array(ReadingOrBucket), { pagination: Pagination, source: SourceSchema }),
          ...guarded('not_found', 'invalid_value', 'invalid_cursor'),
        },
      },
    },
    async (request, reply) => {
      const { bucket, cursor, device, metric, fill = 'none', limit = 1000 } = request.query
      const further = furtherOf(request.query.aggregates)
      const timeZone = timeZoneOf(request, request.query)
      const qualities = qualitiesOf(request.query.quality, bucket ? USUAL_QUALITIES : ALL_QUALITIES)
      const include_deleted = includesDeleted(request, request.query)
      const span = { ...spanOf(request.query), qualities, include_deleted }
      const format = formatOf(request)
      if (format && !bucket)
        return sendLines(
          reply,
          format,
          READING,
          await everyReading(request, { devices: [device], metrics: [metric], include_deleted }, request.query),
        )
      if (format && bucket) {
        await request.read((tx) => seriesOf(tx, { devices: [device], metrics: [metric], include_deleted }, 1))
        const ask = (limit: number) => async (before: string | null) => {
          const question = { device, metric, ...span, bucket, timeZone, fill, further, limit, before }
          return (await request.read((tx) => bucketedReadings(tx, question))).buckets
        }
        // Gaps are filled from what is on both sides of them, so filled buckets come in one piece, of at most `limit`.
        const pages = fill === 'none' ? pagesOf(ask(PAGE)) : [await ask(limit)(null)]
        return sendLines(reply, format, [...BUCKET, ...further], pages)
      }
      const list = `readings ${request.context.organizationId} ${device} ${metric} ${bucket} ${timeZone} ${fill} ${further} ${qualities} ${include_deleted}`
      const [before = null] = (placeIn(request, list, cursor) ?? []) as [string?]
      const question = { device, metric, ...span, limit, before }
      if (!bucket) {
        const found = await request.read((tx) => rawReadings(tx, question))
        return { source: 'raw', ...pageOf(request, list, limit, found, ({ ts }) => [ts]) }
      }
      const { source, buckets } = await request.read((tx) => bucketedReadings(tx, { ...question, bucket, timeZone, fill, further }))
      return { source, ...pageOf(request, list, limit, buckets, ({ ts }) => [ts]) }
    },
  )

  app.get<{ Querystring: Static<typeof LatestQuestion> }>(
    '/telemetry/latest',
    {
      ...options,
      schema: {
        tags,
        summary: 'The latest reading of every device and metric, or of some',
        querystring: LatestQuestion,
        response: { 200: ok(Type.Array(LatestReading), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { limit = 1_000, cursor, ...rest } = request.query
      const list = `latest ${request.context.organizationId} ${JSON.stringify(rest)}`
      const after = placeIn(request, list, cursor) as [string, string] | null
      const found = await request.read((tx) => latestReadings(tx, { ...seriesAsked(request, rest), limit, after }))
      return pageOf(request, list, limit, found, ({ device, metric }) => [device, metric])
    },
  )

  app.get<{ Querystring: Static<typeof ManyQuestion> }>(
    '/telemetry/series/readings',
    {
      ...options,
      schema: {
        tags,
        summary: 'Every reading of many devices and metrics, streamed as NDJSON, or as CSV with `Accept: text/csv`',
        querystring: ManyQuestion,
        response: { ...guarded('not_found', 'invalid_value') },
      },
    },
    async (request, reply) => {
      const readings = await everyReading(request, seriesAsked(request, request.query), request.query)
      return sendLines(reply, formatOf(request) ?? 'ndjson', READING, readings)
    },
  )

  app.get<{ Querystring: Static<typeof AlignedQuestion> }>(
    '/telemetry/series',
    {
      ...options,
      schema: {
        tags,
        summary: 'Several devices and metrics beside each other, by the same buckets, the earliest first',
        querystring: AlignedQuestion,
        response: { 200: ok(Aligned), ...guarded('not_found', 'invalid_value') },
      },
    },
    async (request) => {
      const { bucket, buckets = 300, aggregate = 'avg', fill = 'null', ...rest } = request.query
      const timeZone = timeZoneOf(request, rest)
      const qualities = qualitiesOf(rest.quality, USUAL_QUALITIES)
      const question = { ...seriesAsked(request, rest), ...spanOf(rest), timeZone, bucket, buckets, aggregate, fill, qualities }
      return { data: await request.read((tx) => alignedSeries(tx, question)) }
    },
  )

  app.get<{ Querystring: Static<typeof DrawnQuestion> }>(
    '/telemetry/chart',
    {
      ...options,
      schema: {
        tags,
        summary: 'Series with as many points as a screen has, those that keep what they look like (largest triangle three buckets)',
        querystring: DrawnQuestion,
        response: { 200: ok(Type.Array(Drawn)), ...guarded('not_found', 'invalid_value') },
      },
    },
    async (request) => {
      const { points = 500, ...rest } = request.query
      const qualities = qualitiesOf(rest.quality, USUAL_QUALITIES)
      const annotated = request.may('telemetry.annotation.read')
      return {
        data: await request.read((tx) => drawnSeries(tx, { ...seriesAsked(request, rest), ...spanOf(rest), qualities, points, annotated })),
      }
    },
  )
}
