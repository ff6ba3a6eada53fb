import { StatusError } from '../status-error.ts'

/** In which form objects are wanted: themselves, as the rows of a Table, or their metadata alone. */
export type Representation = 'object' | 'table' | 'partial-metadata'

interface MediaRange {
  readonly type: string
  readonly parameters: ReadonlyMap<string, string>
  readonly quality: number
}

const rangesMax = 32

/**
 * The media ranges of an Accept header, best first; ranges of equal quality in the order in which they were sent
 * (RFC 9110 §12.5.1). Without a header every type will do.
 */
export function parseAccept(header: string | undefined): MediaRange[] {
  if (header === undefined || header.trim() === '') return [{ type: '*/*', parameters: new Map(), quality: 1 }]
  return header.split(',', rangesMax).map(text => {
    const [type = '', ...rest] = text.split(';').map(part => part.trim())
    const parameters = new Map(rest.map(part => {
      const equals = part.indexOf('=')
      return equals === -1 ? [part, ''] : [part.slice(0, equals), part.slice(equals + 1)]
    }))
    const quality = Number(parameters.get('q') ?? 1)
    return { type: type.toLowerCase(), parameters, quality: Number.isNaN(quality) ? 0 : quality }
  }).filter(({ quality }) => quality > 0).toSorted((a, b) => b.quality - a.quality)
}

const json = new Set(['application/json', 'application/*', '*/*'])

/**
 * Which form a request for objects asks for. Only JSON is spoken: a header that allows no form of it is 406.
 * `offered` are the forms this request can have, besides the objects themselves.
 */
export function negotiate(
  header: string | undefined, offered: readonly Exclude<Representation, 'object'>[], isList: boolean
): Representation {
  for (const { type, parameters } of parseAccept(header)) {
    if (!json.has(type)) continue
    const as = parameters.get('as')
    if (as === undefined) return 'object'
    if (parameters.get('g') !== 'meta.k8s.io' || parameters.get('v') !== 'v1') continue
    if (as === 'Table' && offered.includes('table')) return 'table'
    const partial = isList ? 'PartialObjectMetadataList' : 'PartialObjectMetadata'
    if (as === partial && offered.includes('partial-metadata')) return 'partial-metadata'
  }
  throw notAcceptable(['application/json'])
}

export function notAcceptable(available: readonly string[]): StatusError {
  return new StatusError(406, 'NotAcceptable',
    `406: Not Acceptable\n\nAvailable representations: ${available.join(', ')}`, {})
}

/** The media type of a Content-Type header in lower case, without parameters; empty where there is none. */
export function mediaType(header: string | undefined): string {
  return (header ?? '').split(';', 1)[0]!.trim().toLowerCase()
}
