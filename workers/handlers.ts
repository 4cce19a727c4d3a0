// Which consumer does what with which events.
import { reviewReorderRules } from '../domain/erp/inventory/index.ts'
import type { EventHandler } from './event-consumer.ts'

/** Raises and clears low-stock alerts after stock moved or a rule changed. */
export const lowStock: EventHandler = {
  consumer: 'low-stock',
  types: [
    'erp.stock.moved',
    'erp.reorder_rule.created',
    'erp.reorder_rule.updated',
    'erp.reorder_rule.deleted',
    'erp.reorder_rule.recovered',
  ],
  handle: (tx, { data }) => reviewReorderRules(tx, String(data.product_id)),
}

export const eventHandlers: readonly EventHandler[] = [lowStock]
