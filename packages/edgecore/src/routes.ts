import { RecordTopic } from '@holdfast/protos'
import { TwoGenerationCache } from '@holdfast/runtime'

/** One line of the configuration's `routes`. */
export interface RouteRule {
  /** An MQTT topic filter. A level may be named, `{namespace}`: it matches any one level and can be used in `device`. */
  readonly filter: string
  /** `node`, or two segments of literals and named levels, such as `{namespace}/{name}`. */
  readonly device: string
  /** A lane's name; `local`: to subscribers of this node only. */
  readonly lane: string
}

export interface RoutesOptions<Lane> {
  /** The first one that matches holds. */
  readonly rules: readonly RouteRule[]
  /** Lane of a name; undefined stops compilation, since configuration has been checked before. */
  readonly lane: (name: string) => Lane | undefined
  /** Topics remembered with their resolution, about. Default 8192, and at most 4 MiB of topics. */
  readonly cacheEntriesMax?: number
}

/**
 * Where a topic goes. `local`: a rule says so. `unrouted`: no rule matches. `bad-device`: a rule matches, but a level that
 * names the device is empty or has characters that a device cannot have; the message stays local, and is counted.
 */
export type Resolution<Lane> =
  | { readonly kind: 'record', readonly lane: Lane, readonly topic: RecordTopic }
  | { readonly kind: 'local' | 'unrouted' | 'bad-device' }

interface CompiledRule<Lane> {
  readonly levels: readonly string[]
  readonly lane: Lane | undefined
  /** Literal text, or the number of the topic level. */
  readonly device: readonly (string | number)[]
}

const local = { kind: 'local' } as const
const unrouted = { kind: 'unrouted' } as const
const badDevice = { kind: 'bad-device' } as const

/** A namespace or name of a device: letters, digits, `.`, `_`, `-`, beginning with a letter or digit, at most 253. */
const deviceSegment = /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/
const cacheBytesMax = 4 * 1024 * 1024

/** Compiled routes: topic to lane and device. Pure, but for a bounded cache of topics seen. */
export class Routes<Lane> {
  readonly #rules: readonly CompiledRule<Lane>[]
  readonly #cache: TwoGenerationCache<Resolution<Lane>>

  constructor(options: RoutesOptions<Lane>) {
    this.#rules = options.rules.map(rule => compile(rule, options.lane))
    this.#cache = new TwoGenerationCache({ entriesMax: options.cacheEntriesMax ?? 8192, bytesMax: cacheBytesMax })
  }

  /** The same object for the same topic, as long as it is remembered. `topic` is a valid topic name. */
  resolve(topic: string): Resolution<Lane> {
    const known = this.#cache.get(topic)
    if (known !== undefined) return known
    const resolution = this.#match(topic)
    this.#cache.set(topic, resolution, 3 * topic.length)
    return resolution
  }

  #match(topic: string): Resolution<Lane> {
    const levels = topic.split('/')
    for (const rule of this.#rules) {
      if (!matches(rule.levels, levels)) continue
      if (rule.lane === undefined) return local
      let device = ''
      for (const part of rule.device) {
        if (typeof part === 'string') device += part
        else if (deviceSegment.test(levels[part]!)) device += levels[part]!
        else return badDevice
      }
      return { kind: 'record', lane: rule.lane, topic: new RecordTopic(topic, device) }
    }
    return unrouted
  }
}

function compile<Lane>(rule: RouteRule, laneOf: (name: string) => Lane | undefined): CompiledRule<Lane> {
  const levels = rule.filter.split('/')
  const lane = rule.lane === 'local' ? undefined : laneOf(rule.lane)
  if (lane === undefined && rule.lane !== 'local') throw new Error(`invariant broken: route ${rule.filter}: lane ${rule.lane}`)
  const device = rule.device.split(/(\{[a-z]+\})/).filter(part => part !== '').map(part => {
    if (!part.startsWith('{')) return part
    const level = levels.indexOf(part)
    if (level === -1) throw new Error(`invariant broken: route ${rule.filter}: ${part} of the device is not a level`)
    return level
  })
  return { levels: levels.map(level => level.startsWith('{') ? '+' : level), lane, device }
}

function matches(filter: readonly string[], topic: readonly string[]): boolean {
  // [MQTT-4.7.2-1]
  if (topic[0]!.startsWith('$') && (filter[0] === '#' || filter[0] === '+')) return false
  for (let i = 0; i < filter.length; i++) {
    const level = filter[i]!
    if (level === '#') return true
    if (i >= topic.length || (level !== '+' && level !== topic[i])) return false
  }
  return filter.length === topic.length
}
