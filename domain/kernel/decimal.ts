import { Decimal } from 'decimal.js'

// 19 digits before and after rounding need 38; 60 leaves room for a product of two of them.
const Exact = Decimal.clone({ precision: 60, rounding: Decimal.ROUND_HALF_UP, toExpNeg: -30, toExpPos: 40 })

/** An exact decimal from a string; binary floats never touch money or quantities. */
export const decimal = (value: string | number | Decimal): Decimal => new Exact(value)
export type { Decimal }

export const MONEY_SCALE = 4
export const QUANTITY_SCALE = 6

/** Money as it is stored and sent: four decimals, half up. */
export const money = (value: Decimal): string => value.toFixed(MONEY_SCALE)
/** A quantity as it is stored and sent: six decimals, half up. */
export const quantity = (value: Decimal): string => value.toFixed(QUANTITY_SCALE)
