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

/** Items in pieces of so many; the last one has what is left. */
export async function* inPieces<T>(source: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let piece: T[] = []
  for await (const item of source) {
    piece.push(item)
    if (piece.length < size) continue
    yield piece
    piece = []
  }
  if (piece.length > 0) yield piece
}
