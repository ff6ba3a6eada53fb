/**
 * A JSON value as text that is the same for equal values: members in the order of their names, no spaces; what is undefined
 * is left out, as `JSON.stringify` does it.
 */
export function canonicalJson(value: unknown): string {
  if (typeof value !== 'object' || value === null) return value === undefined ? 'null' : JSON.stringify(value)
  if (Array.isArray(value)) {
    let items = ''
    for (const item of value) items += (items === '' ? '' : ',') + canonicalJson(item)
    return `[${items}]`
  }
  const object = value as Readonly<Record<string, unknown>>
  let members = ''
  for (const name of Object.keys(object).toSorted()) {
    const member = object[name]
    if (member !== undefined) members += `${members === '' ? '' : ','}${JSON.stringify(name)}:${canonicalJson(member)}`
  }
  return `{${members}}`
}
