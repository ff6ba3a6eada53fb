/** Offsets from `first` up to, not including, `end`. */
export interface OffsetRange { readonly first: number, readonly end: number }

/** What is in `whole` and in none of `parts`, in order. */
export function subtractRanges(whole: OffsetRange, parts: readonly OffsetRange[]): OffsetRange[] {
  const left: OffsetRange[] = []
  let first = whole.first
  for (const part of parts.toSorted((a, b) => a.first - b.first)) {
    if (part.end <= first) continue
    if (part.first >= whole.end) break
    if (part.first > first) left.push({ first, end: part.first })
    first = part.end
  }
  if (first < whole.end) left.push({ first, end: whole.end })
  return left
}
