"""Import: trees and tables moved in, as often as one likes; what is known is not read again."""
