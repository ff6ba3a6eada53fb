// Walks text that JSON.parse has accepted, so that values can be kept as they were written.

/** Names and raw values of the members of an object, in their order, doubles included. */
export function* members(object: string): Generator<[name: string, raw: string]> {
  let at = spaceEnd(object, 1)
  while (object[at] !== '}') {
    const nameEnd = stringEnd(object, at)
    const name = JSON.parse(object.slice(at, nameEnd)) as string
    const start = spaceEnd(object, spaceEnd(object, nameEnd) + 1)
    const end = valueEnd(object, start)
    yield [name, object.slice(start, end)]
    at = spaceEnd(object, end)
    if (object[at] === ',') at = spaceEnd(object, at + 1)
  }
}

/** Without the white space between tokens. */
export function compactJson(json: string): string {
  let out = ''
  let from = 0
  for (let at = 0; at < json.length;) {
    if (json[at] === '"') at = stringEnd(json, at)
    else if (isSpace(json[at])) {
      out += json.slice(from, at)
      at = from = spaceEnd(json, at)
    } else at++
  }
  return out + json.slice(from)
}

function valueEnd(json: string, start: number): number {
  let depth = 0
  for (let at = start; ;) {
    const character = json[at]
    if (character === '"') at = stringEnd(json, at)
    else if (character === '{' || character === '[') {
      depth++
      at++
    } else if (character === '}' || character === ']') {
      if (depth === 0) return at
      depth--
      at++
    } else if (depth === 0 && (character === ',' || isSpace(character))) return at
    else at++
    if (depth === 0 && (character === '"' || character === '}' || character === ']')) return at
  }
}

/** Behind the string that begins at `at`. */
function stringEnd(json: string, at: number): number {
  let end = at + 1
  while (json[end] !== '"') end += json[end] === '\\' ? 2 : 1
  return end + 1
}

function spaceEnd(json: string, at: number): number {
  let end = at
  while (isSpace(json[end])) end++
  return end
}

function isSpace(character: string | undefined): boolean {
  return character === ' ' || character === '\t' || character === '\n' || character === '\r'
}
