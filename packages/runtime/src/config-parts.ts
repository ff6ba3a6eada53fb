import { section } from './config.ts'
import { logLevels } from './log.ts'
import { hostAddress, oneOf, tcpPort } from './units.ts'

/** Where a server listens. */
export function listenSettings(address: string, port: number) {
  return {
    host: hostAddress().prefault(address).describe('Address to listen on.'),
    port: tcpPort().prefault(port).describe('Port to listen on; the one taken is in endpoints.json.')
  }
}

/** `log.level`. */
export function logSettings() {
  return section({
    level: oneOf(logLevels).prefault('info').describe('Least level of the lines written to standard error.')
  })
}
