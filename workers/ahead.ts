/** The same items; the next one is being made while one is worked on. Only where making them does not need what is done with them. */
export async function* ahead<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  const items = source[Symbol.asyncIterator]()
  const ask = () => {
    const next = items.next()
    next.catch(() => {}) // thrown when it is its turn
    return next
  }
  try {
    for (let next = ask(); ; ) {
      const item = await next
      if (item.done) return
      next = ask()
      yield item.value
    }
  } finally {
    await items.return?.()
  }
}

/** A bound on pieces beside the number of items. */
export interface PieceWeight<T> {
  of: (item: T) => number
  /** A piece ends with the item that brings it here. */
  max: number
}

/** Items in pieces of a size, or of fewer where they are heavy; the last one has what is left. */
export async function* inPieces<T>(source: AsyncIterable<T>, size: number, weight?: PieceWeight<T>): AsyncGenerator<T[]> {
  let piece: T[] = []
  let heavy = 0
  for await (const item of source) {
    piece.push(item)
    if (weight) heavy += weight.of(item)
    if (piece.length < size && heavy < (weight?.max ?? Number.POSITIVE_INFINITY)) continue
    yield piece
    piece = []
    heavy = 0
  }
  if (piece.length > 0) yield piece
}
