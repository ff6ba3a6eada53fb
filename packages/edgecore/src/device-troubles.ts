import { wait } from '@holdfast/runtime'
import type { Clock, Service } from '@holdfast/runtime'
import type { Dmi } from './dmi/index.ts'
import { protocolOf } from './dmi/served-devices.ts'
import type { Mappers } from './mappers/index.ts'
import type { DeviceId, DeviceTwin, DeviceTwins, NodeTwins } from './twins/index.ts'
import { twinsLimits as limits } from './twins/limits.ts'

export interface DeviceTroublesComponents {
  readonly twins: Pick<DeviceTwins, 'all' | 'get'> & Pick<NodeTwins, 'tellTrouble'>
  readonly mappers: Pick<Mappers, 'problemsOf' | 'serves'>
  readonly dmi: Pick<Dmi, 'protocols' | 'troubleOf' | 'url'>
  readonly clock: Clock
}

/** What was found of one device; undefined: not known. */
interface Found {
  readonly uid: string
  /** By the last look. */
  readonly now: string | undefined
  /** What is told of it, and since when, monotonic. */
  readonly told: string | undefined
  readonly toldMs: number
}

/** Looked at in one turn of the event loop. */
const devicesPerTurn = 100
const problemsShown = 3

/** What keeps devices from being served, for who is not on the node (TWN-41, TWN-42). */
export class DeviceTroubles implements Service {
  readonly name = 'device troubles'
  readonly #components: DeviceTroublesComponents
  #found: ReadonlyMap<DeviceId, Found> = new Map()

  constructor(components: DeviceTroublesComponents) { this.#components = components }

  /** What keeps a device from being served now; '': nothing, as far as the node knows. Undefined: that is not known yet. */
  of(device: DeviceTwin): string | undefined {
    const text = this.#textOf(device)?.replace(/\p{Cc}/gu, ' ')
    const { value: max } = limits.troubleLength
    return (text !== undefined && text.length > max ? `${text.slice(0, max - 1)}…` : text)?.toWellFormed()
  }

  /**
   * Looks at all devices again and again. What two looks in a row have found is told, so that what a start or a single bad message
   * brings is not; and of a trouble that lasts another text now and then only, whatever the device sends.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { twins, clock } = this.#components
    for (;;) {
      await wait(clock, limits.troubleIntervalMs.value, signal).catch(() => {})
      const found = new Map<DeviceId, Found>()
      const ids = Array.from(twins.all(), ({ id }) => id)
      for (let i = 0; i < ids.length; i += devicesPerTurn) {
        if (signal.aborted) return
        for (const id of ids.slice(i, i + devicesPerTurn)) {
          const device = twins.get(id)
          if (device !== undefined) found.set(id, this.#look(device))
        }
        await new Promise<void>(resolve => { clock.soon(resolve) })
      }
      if (signal.aborted) return
      this.#found = found
    }
  }

  #look(device: DeviceTwin): Found {
    const { twins, clock } = this.#components
    const { id, uid } = device
    const before = this.#found.get(id)
    const now = this.of(device)
    let { told, toldMs = -Infinity } = before?.uid === uid ? before : { told: undefined }
    const isFoundAgain = now !== undefined && before?.uid === uid && before.now !== undefined && (before.now === '') === (now === '')
    const isAnother = told === undefined || (told === '') !== (now === '')
    if (isFoundAgain && now !== told && (isAnother || clock.monotonicMs() - toldMs >= limits.troubleTextMs.value)) {
      told = now
      toldMs = clock.monotonicMs()
    }
    // Again, too: the store may have been opened anew.
    if (told !== undefined) twins.tellTrouble(device, told)
    return { uid, now, told, toldMs }
  }

  #textOf(device: DeviceTwin): string | undefined {
    const { mappers, dmi } = this.#components
    const problems = mappers.problemsOf(device)
    if (problems !== undefined && mappers.serves(device)) return problemsText(problems)
    // One that a built-in mapper can do nothing for is another mapper's, where there is one.
    const protocol = protocolOf(device.device)
    const { protocols } = dmi
    if (protocols.includes(protocol)) return dmi.troubleOf(device)
    if (problems !== undefined) return problemsText(problems)
    const { reported, state } = device.twin
    // It may well speak for itself, on its topics or over HTTP.
    if (protocol === '' || reported.size > 0 || state !== undefined) return ''
    const other = protocols.find(each => each.toLowerCase() === protocol.toLowerCase())
    const why = other !== undefined ? `; one has for ${JSON.stringify(other)}, and case matters`
      : dmi.url === undefined ? ', where dmi.mode is off' : ''
    return `no mapper for protocol ${JSON.stringify(protocol)} has registered on the node${why}`
  }
}

function problemsText(problems: NonNullable<ReturnType<Mappers['problemsOf']>>): string {
  const shown = problems.slice(0, problemsShown).map(({ property, reason }) => property === undefined ? reason : `${property}: ${reason}`)
  const more = problems.length - shown.length
  return shown.join('; ') + (more > 0 ? `; and ${more} more` : '')
}
