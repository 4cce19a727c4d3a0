// Whatever is done to stock, in whatever order, legal or not: it is what a small model of double entry says it is.
import fc from 'fast-check'
import t from 'tap'
import { type Decimal, decimal } from '../../../domain/kernel/index.ts'
import { type TestTenant, testApp } from '../../support/app.ts'

const { tenant } = await testApp(t)

type Method = 'fifo' | 'average'
const PLACES = ['store', 'bin'] as const
type Place = (typeof PLACES)[number]

type Step =
  | { do: 'find'; place: Place; quantity: number; cost: number | null; hour: number | null }
  | { do: 'lose'; place: Place; quantity: number; cost: null; hour: number | null }
  | { do: 'issue'; place: Place; quantity: number; hour: number | null }
  | { do: 'transfer'; place: Place; quantity: number; hour: number | null }
  | { do: 'reverse'; which: number }
  | { do: 'hold'; place: Place; quantity: number }
  | { do: 'release'; which: number }
  | { do: 'take'; which: number }

const place = fc.constantFrom(...PLACES)
const quantity = fc.integer({ min: 1, max: 40 }).map((n) => n / 4)
// Hours of a day that is over: many moves fall on the same one, and most are written out of their order.
const hour = fc.option(fc.integer({ min: 0, max: 8 }))
const cost = fc.option(fc.integer({ min: 0, max: 99_999 }).map((n) => n / 1000))
const which = fc.nat(5)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('find' as const), place, quantity, cost, hour }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose' as const), place, quantity, cost: fc.constant(null), hour }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('issue' as const), place, quantity, hour }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('transfer' as const), place, quantity, hour }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('reverse' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('hold' as const), place, quantity }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('release' as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('take' as const), which }) },
)

interface Entry {
  id: string
  at: number
  from: Place | null
  to: Place | null
  quantity: Decimal
  cost: Decimal | null
  reverses: Entry | null
}
const round = (value: Decimal) => value.toDecimalPlaces(4)
const zero = decimal(0)

/** Double entry, and what it is worth by the textbook: everything is worked out from the entries, from the first one on. */
class Model {
  readonly entries: Entry[] = []
  held: { id: string; place: Place; quantity: Decimal }[] = []

  balance(where: Place, until = Number.POSITIVE_INFINITY): Decimal {
    return this.entries
      .filter(({ at }) => at <= until)
      .reduce((sum, e) => sum.plus(e.to === where ? e.quantity : 0).minus(e.from === where ? e.quantity : 0), zero)
  }
  free = (where: Place) => this.held.filter((h) => h.place === where).reduce((left, h) => left.minus(h.quantity), this.balance(where))

  /** Whether so much can leave at a moment: now it is free, and at no moment since is less than nothing left. */
  gives(where: Place, wanted: Decimal, at: number, free = this.free(where)): boolean {
    const moments = [at, ...this.entries.map((e) => e.at).filter((other) => other > at)]
    return free.gte(wanted) && moments.every((moment) => this.balance(where, moment).gte(wanted))
  }

  worth(method: Method): { quantity: Decimal; value: Decimal } {
    const order = this.entries
      .map((entry, written) => ({ entry, written, out: entry.to === null }))
      .filter(({ entry }) => (entry.from === null) !== (entry.to === null))
      .sort((a, b) => a.entry.at - b.entry.at || Number(a.out) - Number(b.out) || a.written - b.written)
    const left = new Map<Entry, Decimal>() // what an entry took out was worth
    const layers: { cost: Decimal; size: Decimal; used: Decimal }[] = []
    let quantity = zero
    let value = zero
    let each = zero
    for (const { entry, out } of order) {
      const before = value
      if (!out) {
        const cost = entry.reverses ? left.get(entry.reverses)! : (entry.cost ?? round(entry.quantity.mul(each)))
        quantity = quantity.plus(entry.quantity)
        value = value.plus(cost)
        layers.push({ cost, size: entry.quantity, used: zero })
        each = (method === 'fifo' ? cost.div(entry.quantity) : value.div(quantity)).toDecimalPlaces(10)
      } else if (method === 'average') {
        value = quantity.eq(entry.quantity) ? zero : value.minus(round(value.mul(entry.quantity).div(quantity)))
        quantity = quantity.minus(entry.quantity)
        if (quantity.gt(0)) each = value.div(quantity).toDecimalPlaces(10)
      } else {
        let wanted = entry.quantity
        for (const layer of layers) {
          const part = Number(layer.size.minus(layer.used)) < Number(wanted) ? layer.size.minus(layer.used) : wanted
          const upTo = (used: Decimal) => round(layer.cost.mul(used).div(layer.size))
          value = value.minus(upTo(layer.used.plus(part))).plus(upTo(layer.used))
          layer.used = layer.used.plus(part)
          wanted = wanted.minus(part)
        }
        quantity = quantity.minus(entry.quantity)
      }
      left.set(entry, before.minus(value))
    }
    return { quantity, value }
  }
}

async function run(
  acme: TestTenant,
  method: Method,
  code: string,
  uom: string,
  places: Record<Place, string>,
  steps: readonly Step[],
): Promise<void> {
  const product = (await acme.admin.post('/erp/products', { code, name: code, uom_id: uom, cost_method: method })).data.id as string
  const model = new Model()
  const moment = (hour: number | null) => (hour === null ? Date.now() : Date.UTC(2026, 0, 1, hour))
  const at = (hour: number | null) => (hour === null ? {} : { effective_at: new Date(moment(hour)).toISOString() })
  const agree = (what: string, expected: boolean, answer: { status: number; text: string }) => {
    if (expected !== answer.status < 300 || answer.status >= 500)
      throw new Error(`${what}: ${expected ? 'done' : 'refused'} expected, ${answer.text}`)
    if (answer.status === 409 && !/insufficient_stock|already_exists|invalid_transition/.test(answer.text))
      throw new Error(`${what}: ${answer.text}`)
    return expected
  }
  const write = (move: { id: string; effective_at: string }, entry: Omit<Entry, 'id' | 'at'>) =>
    model.entries.push({ id: move.id, at: Date.parse(move.effective_at), ...entry })

  for (const step of steps) {
    if (step.do === 'find' || step.do === 'lose') {
      const wanted = decimal(step.quantity)
      const found = step.do === 'find'
      const answer = await acme.admin.post('/erp/stock/adjustments', {
        product_id: product,
        location_id: places[step.place],
        quantity: `${found ? '' : '-'}${step.quantity}`,
        ...(step.cost === null ? {} : { cost: String(step.cost) }),
        ...at(step.hour),
        reason: 'Model',
      })
      if (agree('adjust', found || model.gives(step.place, wanted, moment(step.hour)), answer))
        write(answer.data[0], {
          from: found ? null : step.place,
          to: found ? step.place : null,
          quantity: wanted,
          cost: step.cost === null ? null : decimal(step.cost),
          reverses: null,
        })
    } else if (step.do === 'issue' || step.do === 'transfer') {
      const to = step.do === 'issue' ? null : PLACES.find((other) => other !== step.place)!
      const wanted = decimal(step.quantity)
      const body = { product_id: product, quantity: String(step.quantity), ...at(step.hour) }
      const answer = to
        ? await acme.operator.post('/erp/stock/transfers', { ...body, from_location_id: places[step.place], to_location_id: places[to] })
        : await acme.operator.post('/erp/stock/issues', { ...body, location_id: places[step.place] })
      if (agree(step.do, model.gives(step.place, wanted, moment(step.hour)), answer))
        write(answer.data[0], { from: step.place, to, quantity: wanted, cost: null, reverses: null })
    } else if (step.do === 'reverse') {
      const entry = model.entries.at(-1 - step.which)
      if (!entry) continue
      const answer = await acme.admin.post(`/erp/stock/moves/${entry.id}/reverse`, { reason: 'Model' })
      const allowed =
        !entry.reverses &&
        !entry.id.startsWith('taken ') &&
        !model.entries.some((other) => other.reverses === entry) &&
        (entry.to === null || model.gives(entry.to, entry.quantity, Date.now()))
      if (entry.id.startsWith('taken ')) continue
      if (agree('reverse', allowed, answer))
        write(answer.data, { from: entry.to, to: entry.from, quantity: entry.quantity, cost: null, reverses: entry })
    } else if (step.do === 'hold') {
      const answer = await acme.operator.post('/erp/stock-reservations', {
        location_id: places[step.place],
        lines: [{ product_id: product, quantity: String(step.quantity) }],
      })
      if (agree('hold', model.free(step.place).gte(step.quantity), answer))
        model.held.push({ id: answer.data[0].source_id, place: step.place, quantity: decimal(step.quantity) })
    } else {
      const held = model.held.at(-1 - step.which)
      if (!held) continue
      const answer = await acme.operator.post(`/erp/stock-reservations/${step.do === 'take' ? 'issue' : 'release'}`, { source_id: held.id })
      agree(step.do, true, answer)
      model.held = model.held.filter((other) => other !== held)
      if (step.do === 'take')
        write(
          { ...answer.data[0], id: `taken ${answer.data[0].id}` },
          { from: held.place, to: null, quantity: held.quantity, cost: null, reverses: null },
        )
    }

    const levels = (await acme.viewer.get(`/erp/stock?product_id=${product}`)).data as {
      location_id: string
      quantity: string
      available: string
    }[]
    for (const where of PLACES) {
      const level = levels.find((row) => row.location_id === places[where])
      const [there, free] = [decimal(level?.quantity ?? 0), decimal(level?.available ?? 0)]
      if (!there.eq(model.balance(where)) || !free.eq(level ? model.free(where) : 0))
        throw new Error(`${where}: ${there} and ${free}, not ${model.balance(where)} and ${model.free(where)}`)
    }
    const [kept] = (await acme.admin.get(`/erp/stock/value?product_id=${product}`)).data
    const expected = model.worth(method)
    if (!decimal(kept?.value ?? 0).eq(expected.value) || !decimal(kept?.quantity ?? 0).eq(expected.quantity))
      throw new Error(`worth ${kept?.value} of ${kept?.quantity}, not ${expected.value} of ${expected.quantity}`)
    const proof = (await acme.viewer.get(`/erp/stock/verify?product_id=${product}`)).data
    if (proof.differences.length > 0 || proof.products !== 1) throw new Error(`differences: ${JSON.stringify(proof)}`)
  }
}

for (const method of ['fifo', 'average'] as const) {
  t.test(`${method}: stock does what the model does`, async (t) => {
    const acme = await tenant()
    const uom = (await acme.admin.post('/erp/uoms', { code: 'PCS', name: 'Piece', dimension: 'count' })).data.id as string
    const [store, bin] = await Promise.all(
      PLACES.map(async (code) => (await acme.admin.post('/erp/locations', { code, name: code })).data.id as string),
    )
    let runs = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25, size: 'max' }), async (steps) => {
        await run(acme, method, `M${++runs}`, uom, { store: store!, bin: bin! }, steps)
      }),
      { numRuns: 15, endOnFailure: false },
    )
    t.ok(runs >= 15, `${runs} histories`)
  })
}
