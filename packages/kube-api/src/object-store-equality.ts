/** Whether two documents have the same JSON, whatever the order of their members; an undefined member is none. */
export function equalJson(one: unknown, other: unknown): boolean {
  if (one === other) return true
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null) return false
  if (Array.isArray(one)) {
    return Array.isArray(other) && one.length === other.length && one.every((value, i) => equalJson(value, other[i]))
  }
  if (Array.isArray(other)) return false
  return membersEqual(one as Record<string, unknown>, other as Record<string, unknown>)
}

function membersEqual(one: Record<string, unknown>, other: Record<string, unknown>): boolean {
  let count = 0
  for (const name of Object.keys(one)) {
    const value = one[name]
    if (value === undefined) continue
    if (!Object.hasOwn(other, name) || !equalJson(value, other[name])) return false
    count++
  }
  for (const name of Object.keys(other)) if (other[name] !== undefined) count--
  return count === 0
}
